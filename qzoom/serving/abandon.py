"""When does a computation stop that nobody waits for? Between two of its layers.

Before every layer a stage looks whether anybody still waits for the batch that is being computed.
A hook does it, so that the model itself knows nothing of requests.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


class Abandoned(Exception):
    """Nobody waits any more; the computation was stopped and has no result."""


class StopBetweenLayers:
    """Stops the computation of a stage; used by the one thread that runs it.

    Args:
        stage: Its layers are the members of its `ModuleList`s, towers included.
    """

    def __init__(self, stage: "nn.Module | None") -> None:
        self._is_abandoned: Callable[[], bool] | None = None
        for layer in _layers(stage) if stage is not None else ():
            layer.register_forward_pre_hook(self._look)

    @contextmanager
    def watching(self, is_abandoned: Callable[[], bool]) -> Iterator[None]:
        """Stop what is computed in this block once the function says so.

        Raises:
            Abandoned: Between two layers.
        """
        self._is_abandoned = is_abandoned
        try:
            yield
        finally:
            self._is_abandoned = None

    def _look(self, _layer: "nn.Module", _inputs: object) -> None:
        if self._is_abandoned is not None and self._is_abandoned():
            raise Abandoned


def _layers(stage: "nn.Module") -> Iterator["nn.Module"]:
    from torch import nn  # noqa: PLC0415 a replica imports it, the application does not

    for module in stage.modules():
        if isinstance(module, nn.ModuleList):
            yield from module
