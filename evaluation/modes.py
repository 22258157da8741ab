"""In which ways is a model asked? The routes of the method, and the plain model at a budget."""

from dataclasses import dataclass

from qzoom.contracts.options import Options


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to ask every question.

    Attributes:
        name: Row of the table.
        options: What each request asks for.
    """

    name: str
    options: Options


def default_modes(full_tokens: int) -> tuple[Mode, ...]:
    """The comparison that matters: coarse, full, the gate's choice, always zooming.

    Args:
        full_tokens: Budget of the picture at full resolution, in visual tokens.
    """
    return (
        Mode("direct, coarse", Options(route="direct")),
        Mode("direct, full", Options(route="direct", max_visual_tokens=full_tokens)),
        Mode("auto", Options(route="auto")),
        Mode("zoom always", Options(route="zoom")),
    )
