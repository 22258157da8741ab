"""How does a call begin before it is known whether its result is wanted?"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Self, TypeVar

Result = TypeVar("Result")


class HeadStart(Generic[Result]):
    """A call that may run while something else is decided; whoever leaves the block drops it.

    Args:
        call: Makes the call.
        is_early: Whether it begins on entering the block; otherwise when its result is asked for.
    """

    def __init__(self, call: Callable[[], Coroutine[Any, Any, Result]], *, is_early: bool) -> None:
        self._call = call
        self._is_early = is_early
        self._task: asyncio.Task[Result] | None = None

    async def __aenter__(self) -> Self:
        """Begin, if that was wished."""
        if self._is_early:
            self._task = asyncio.create_task(self._call())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel what still runs; what became of a result that nobody asked for is nobody's."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def result(self) -> Result:
        """Wait for the result of the call that has begun; asked again, call again."""
        begun, self._task = self._task, None
        if begun is None:
            return await self._call()
        try:
            return await begun
        finally:
            begun.cancel()
