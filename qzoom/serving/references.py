"""How does a service read the state that it was handed? By reference, without a copy.

The gateway owns the objects (docs/decisions/0003-state-by-reference.md); a service opens them for
the time of one call.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from ray.exceptions import ObjectLostError, RayError

from qzoom.contracts.tensors import Buffer
from qzoom.errors import DeadlineExceeded, StateLost

Reference = Any
"""A `ray.ObjectRef`, which Ray types by its content; or the array itself, where it is small."""

Reader = Callable[[Sequence[int]], Awaitable[list[Buffer]]]
"""Opens some of a call's references, by their place in its list; the others stay unopened."""


def reader(references: Sequence[Reference], deadline: float) -> Reader:
    """Let a service open what it needs, and nothing else.

    Args:
        references: Of one call.
        deadline: Unix time in seconds.
    """

    async def read(places: Sequence[int]) -> list[Buffer]:
        return await read_buffers([references[place] for place in places], deadline)

    return read


async def read_buffers(references: Sequence[Reference], deadline: float) -> list[Buffer]:
    """Open the buffers (or pixels) of one call.

    Args:
        references: To arrays in the object store, or arrays that came with the message.
        deadline: Unix time in seconds.

    Returns:
        The arrays in the order of the references. Nobody may write to them: most are views of
        shared memory.

    Raises:
        StateLost: If an object died with its owner or its node.
        DeadlineExceeded: If they cannot be had in time.
    """
    try:
        async with asyncio.timeout(max(0.0, deadline - time.time())):
            return list(await asyncio.gather(*map(_open, references)))
    except TimeoutError:
        raise DeadlineExceeded("the deadline passed while state was fetched") from None
    except ObjectLostError as error:
        raise StateLost("the state of the request was lost") from error
    except RayError as error:
        raise StateLost("the state of the request could not be read") from error


async def _open(reference: Reference) -> Buffer:
    if isinstance(reference, np.ndarray):
        return reference
    buffer: Buffer = await reference
    return buffer
