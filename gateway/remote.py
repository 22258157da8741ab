"""How is one method of a service called? By reference, with a deadline and typed errors.

Every call says `_by_reference=True`: in gRPC mode a handle would pin the references that it carries
for ever. Leaving a call early cancels it in the replica. Whatever Ray or Serve raises leaves here
as a `QZoomError`, whose class says what the caller can do.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from qzoom.errors import DeadlineExceeded, Overloaded, QZoomError, StateLost, Unavailable

Reference = Any
"""A `ray.ObjectRef`; Ray types it by its content, which the gateway does not know."""

RETRY_AFTER_S = 1.0
"""What a client is told to wait when a service refuses a request."""


@asynccontextmanager
async def streamed(
    handle: DeploymentHandle[Any],
    method: str,
    request: object,
    references: Sequence[Reference],
    deadline: float,
) -> AsyncIterator[AsyncIterator[Reference]]:
    """Call a generator method of a service.

    Args:
        handle: Of the service.
        method: Name of the method, an async generator.
        request: Its message.
        references: State that it reads; travels inside a list, so that nobody opens it on the way.
        deadline: Unix time in seconds until which a replica must have taken the call.

    Yields:
        The references of what the method yields, in order, unopened. Opening one, or waiting for
        the next, belongs into a `translated` block.

    Raises:
        QZoomError: If no replica takes the call.
    """
    caller = handle.options(method_name=method, stream=True, _by_reference=True)
    response = caller.remote(request, list(references))
    assert isinstance(response, DeploymentResponseGenerator)
    is_complete = False
    try:
        async with translated(handle.deployment_name, deadline):
            results = await response._to_object_ref_gen()
        yield results
        is_complete = True
    finally:
        if not is_complete:
            response.cancel()  # type: ignore[no-untyped-call]


@asynccontextmanager
async def translated(service: str, deadline: float) -> AsyncIterator[None]:
    """Wait for a service no longer than the deadline, and say in our own terms what went wrong.

    Args:
        service: Its name, for messages.
        deadline: Unix time in seconds.

    Raises:
        QZoomError: What the service raised, or what became of it.
    """
    try:
        async with asyncio.timeout(max(0.0, deadline - time.time())):
            yield
    except RayTaskError as error:
        if isinstance(error.cause, QZoomError):
            raise error.cause from None
        raise QZoomError(f"the {service} service failed") from error
    except TimeoutError:
        raise DeadlineExceeded(f"the deadline passed while waiting for {service}") from None
    except (RayActorError, ObjectLostError) as error:
        raise StateLost(f"the {service} service died while it worked on the request") from error
    except BackPressureError as error:
        message = f"the {service} service has too much to do"
        raise Overloaded(message, retry_after_s=RETRY_AFTER_S) from error
    except (RayError, RayServeException) as error:
        raise Unavailable(f"the {service} service is not available") from error
