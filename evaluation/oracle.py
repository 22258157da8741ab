"""What would a perfect gate reach? The upper end of everything that routing can do."""

import dataclasses
from collections.abc import Sequence

from evaluation.modes import Mode
from evaluation.results import Result


def oracle_results(base: Sequence[Result], zoom: Sequence[Result], mode: Mode) -> list[Result]:
    """Take the direct answer where the zoomed one is no better, else the zoomed one.

    No gate can be more accurate with these two routes, nor cheaper at that accuracy. The cost of a
    gate is not in it.

    Args:
        base: Answers of the direct route.
        zoom: Answers of the zoom route to the same questions.
        mode: The oracle's.

    Raises:
        ValueError: If the questions differ.
    """
    chosen = []
    for direct, zoomed in zip(base, zoom, strict=True):
        if direct.id != zoomed.id:
            raise ValueError(f"{direct.id} and {zoomed.id} are different questions")
        best = zoomed if zoomed.score > direct.score else direct
        chosen.append(dataclasses.replace(best, mode=mode.name, kind=mode.kind))
    return chosen
