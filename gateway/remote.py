"""How is one method of a service called? By reference, with a deadline and typed errors.

Every call says `_by_reference=True`: in gRPC mode a handle would pin the references that it carries
for ever. Leaving a call early cancels it in the replica. Whatever Ray or Serve raises leaves here
as a `QZoomError`, whose class says what the caller can do.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from qzoom.errors import DeadlineExceeded, Overloaded, QZoomError, StateLost, Unavailable

Reference = Any
"""A `ray.ObjectRef`; Ray types it by its content, which the gateway does not know."""

RETRY_AFTER_S = 1.0
"""What a client is told to wait when a service refuses a request."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request waits for a service.

    Attributes:
        deadline: Unix time in seconds after which nobody waits for the answer.
        limit_s: Longest wait for one reply; a service that is silent for longer hangs.
    """

    deadline: float
    limit_s: float = math.inf

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self.deadline - time.time())


@asynccontextmanager
async def streamed(
    handle: DeploymentHandle[Any],
    method: str,
    request: object,
    references: Sequence[Reference],
    patience: Patience,
    affinity: str = "",
) -> AsyncIterator[AsyncIterator[Reference]]:
    """Call a generator method of a service.

    Args:
        handle: Of the service.
        method: Name of the method, an async generator.
        request: Its message.
        references: State that it reads; travels inside a list, so that nobody opens it on the way.
        patience: How long a replica may take to accept the call.
        affinity: Serve's session id: a router that goes by it sends calls of the same text to the
            same replica. Serve's default router takes no notice.

    Yields:
        The references of what the method yields, in order, unopened. Opening one, or waiting for
        the next, belongs into a `translated` block.

    Raises:
        QZoomError: If no replica takes the call.
    """
    caller = handle.options(
        method_name=method, stream=True, _by_reference=True, session_id=affinity
    )
    response = caller.remote(request, list(references))
    assert isinstance(response, DeploymentResponseGenerator)
    is_complete = False
    try:
        async with translated(handle.deployment_name, patience):
            results = await response._to_object_ref_gen()
        yield results
        is_complete = True
    finally:
        if not is_complete:
            response.cancel()  # type: ignore[no-untyped-call]


@asynccontextmanager
async def translated(service: str, patience: Patience) -> AsyncIterator[None]:
    """Wait for a service, but not for ever, and say in our own terms what went wrong.

    Args:
        service: Its name, for messages.
        patience: How long to wait.

    Raises:
        QZoomError: What the service raised, or what became of it.
    """
    try:
        async with asyncio.timeout(min(patience.limit_s, patience.left_s)):
            yield
    except RayTaskError as error:
        if isinstance(error.cause, QZoomError):
            raise error.cause from None
        raise QZoomError(f"the {service} service failed") from error
    except TimeoutError:
        if patience.left_s > 0.0:
            message = f"the {service} service did not answer within {patience.limit_s:g} s"
            raise Unavailable(message, retry_after_s=RETRY_AFTER_S) from None
        raise DeadlineExceeded(f"the deadline passed while waiting for {service}") from None
    except (RayActorError, ObjectLostError) as error:
        message = f"the {service} service died while it worked on the request"
        raise StateLost(message, retry_after_s=RETRY_AFTER_S) from error
    except BackPressureError as error:
        message = f"the {service} service has too much to do"
        raise Overloaded(message, retry_after_s=RETRY_AFTER_S) from error
    except (RayError, RayServeException) as error:
        message = f"the {service} service is not available"
        raise Unavailable(message, retry_after_s=RETRY_AFTER_S) from error
