import dataclasses
from collections.abc import Callable

import pytest

from evaluation.results import Result

RESULT = Result(
    mode="auto", kind="auto", budget=None, id="1", group="detail", domain="scenes",
    needs_detail=True, question="q", truths=("4071",), answer="4071", score=1.0, route="zoom",
    p_refine=0.9, box_px=(0, 0, 50, 100), evidence_px=(20, 20, 30, 30), size_px=(100, 100),
    coarse_tokens=36, roi_tokens=36, cpu_s=0.02, wall_s=None,
)  # fmt: skip


@pytest.fixture
def result() -> Callable[..., Result]:
    """Makes results that differ from a usual one in what is named."""
    return lambda **changes: dataclasses.replace(RESULT, **changes)
