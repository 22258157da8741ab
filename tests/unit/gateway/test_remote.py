"""What Ray and Serve raise becomes an error that says what the caller can do."""

import asyncio
import time

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from ray.exceptions import ActorDiedError, OwnerDiedError, RayTaskError, WorkerCrashedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from gateway.remote import Patience, translated
from qzoom.errors import (
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    QZoomError,
    StateLost,
    Unavailable,
)

SOON_S = 5.0


def raised_in_a_replica(cause):
    """As the caller of a remote method sees it."""
    error = RayTaskError("prefill", "Traceback: secret.py", cause, pid=1, ip="127.0.0.1")
    return error.as_instanceof_cause()


async def outcome(error):
    with pytest.raises(QZoomError) as caught:
        async with translated("gate", Patience(time.time() + SOON_S)):
            raise error
    return caught.value


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ActorDiedError(), StateLost),
        (OwnerDiedError("00", None, ""), StateLost),
        (BackPressureError(num_queued_requests=3, max_queued_requests=2), Overloaded),
        (DeploymentUnavailableError(None), Unavailable),
        (WorkerCrashedError(), Unavailable),
        (AioRpcError(StatusCode.CANCELLED, Metadata(), Metadata()), StateLost),
        (raised_in_a_replica(ValueError("secret")), QZoomError),
    ],
)
async def test_every_failure_has_its_class(error, kind):
    caught = await outcome(error)
    assert type(caught) is kind
    assert "gate" in caught.message
    assert "secret" not in caught.message


async def test_our_own_errors_arrive_as_they_were_raised():
    cause = InvalidRequest("too small", param="messages", retry_after_s=2.0)
    caught = await outcome(raised_in_a_replica(cause))
    assert type(caught) is InvalidRequest
    assert (caught.message, caught.param, caught.retry_after_s) == ("too small", "messages", 2.0)


async def test_the_deadline_ends_the_wait():
    with pytest.raises(DeadlineExceeded, match="gate"):
        async with translated("gate", Patience(time.time() + 0.05)):
            await asyncio.sleep(SOON_S)


async def test_a_deadline_that_has_passed_ends_it_at_once():
    with pytest.raises(DeadlineExceeded):
        async with translated("gate", Patience(time.time() - 1)):
            await asyncio.sleep(SOON_S)


async def test_a_service_that_is_silent_before_the_deadline_is_unavailable():
    with pytest.raises(Unavailable, match=r"gate service did not answer within 0\.05 s"):
        async with translated("gate", Patience(time.time() + SOON_S, limit_s=0.05)):
            await asyncio.sleep(SOON_S)
