"""How is one method of a service called? With a deadline, and typed errors.

Every call that carries references says `_by_reference=True`: in gRPC mode a handle would pin them
for ever. Leaving a call early cancels it in the replica. Whatever Ray or Serve raises leaves here
as a `QZoomError`, whose class says what the caller can do.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import numpy as np
from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from qzoom.contracts.tensors import Buffer
from qzoom.errors import DeadlineExceeded, Overloaded, QZoomError, StateLost, Unavailable

Reference = Any
"""A `ray.ObjectRef`; Ray types it by its content, which the gateway does not know."""

Message = Any
"""Whatever a method yields."""

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


class Results(Protocol):
    """What a call yields, in order. Waiting for it belongs into a `translated` block."""

    async def message(self) -> Message:
        """Wait for the next one, and open it."""
        ...

    async def buffer(self) -> Buffer | Reference:
        """Wait for the next one, a buffer; unopened where it has a reference."""
        ...


class ByReference:
    """References of what a method yields, which Ray holds."""

    def __init__(self, references: AsyncIterator[Reference]) -> None:
        self._references = references

    async def message(self) -> Message:
        """See `Results`."""
        return await (await anext(self._references))

    async def buffer(self) -> Reference:
        """See `Results`."""
        return await anext(self._references)


class ByValue:
    """What a method yields, as it comes."""

    def __init__(self, values: AsyncIterator[Any]) -> None:
        self._values = values

    async def message(self) -> Message:
        """See `Results`."""
        return await anext(self._values)

    async def buffer(self) -> Buffer:
        """See `Results`."""
        buffer: Buffer = await anext(self._values)
        return buffer


@asynccontextmanager
async def streamed(
    handle: DeploymentHandle[Any],
    method: str,
    request: object,
    state: Sequence[Buffer | Reference],
    patience: Patience,
    affinity: str = "",
    *,
    by_value: bool = False,
) -> AsyncIterator[Results]:
    """Call a generator method of a service.

    Args:
        handle: Of the service.
        method: Name of the method, an async generator.
        request: Its message.
        state: That it reads; travels inside a list, so that nobody opens references on the way.
        patience: How long a replica may take to accept the call.
        affinity: Serve's session id, by which `gateway.routing` prefers one replica; empty has no
            preference.
        by_value: Whether everything travels inside the messages of Serve's own gRPC transport,
            without a pass through Ray. It would pin references for ever, so that there must be
            none, and its messages are bounded.

    Yields:
        What the method yields, in order.

    Raises:
        QZoomError: If no replica takes the call.
    """
    caller = handle.options(
        method_name=method, stream=True, _by_reference=not by_value, session_id=affinity
    )
    carried = list(state)
    response = caller.remote(request, carried)
    assert isinstance(response, DeploymentResponseGenerator)
    is_complete = False
    try:
        if by_value:
            assert all(isinstance(one, np.ndarray) for one in state), "references are pinned"
            yield ByValue(response)
        else:
            async with translated(handle.deployment_name, patience):
                results = await response._to_object_ref_gen()
            yield ByReference(results)
        is_complete = True
    finally:
        if not is_complete:
            response.cancel()  # type: ignore[no-untyped-call]
        # Of a call that failed or was left, Serve keeps the arguments until the cyclic collector
        # comes by. The state must not wait for that.
        carried.clear()


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
    except (RayActorError, ObjectLostError, grpc.aio.AioRpcError) as error:
        message = f"the {service} service died while it worked on the request"
        raise StateLost(message, retry_after_s=RETRY_AFTER_S) from error
    except BackPressureError as error:
        message = f"the {service} service has too much to do"
        raise Overloaded(message, retry_after_s=RETRY_AFTER_S) from error
    except (RayError, RayServeException) as error:
        message = f"the {service} service is not available"
        raise Unavailable(message, retry_after_s=RETRY_AFTER_S) from error
