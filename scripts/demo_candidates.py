"""Which questions can the demo ask of a model? Run it after training; then edit `cli/examples.py`.

    .venv/bin/python scripts/demo_candidates.py [MODEL] [FIRST] [LAST]

The demo illustrates: its questions are chosen among those that the model answers. How often it
answers rightly is what `qzoom evaluate` measures, on pictures that nobody chose.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cli import examples
from cli.console import out
from qzoom.builtin import builtin_model
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.data.questions import Kind
from qzoom.model.pipeline import Pipeline

MAX_TOKENS = 16
TRIED: tuple[tuple[Kind, bool], ...] = (
    ("code", False),
    ("colour", False),
    ("shape", False),
    ("what", False),
    ("count", False),
    ("code", True),
)


def candidates(model: Path, numbers: range) -> Iterator[tuple[int, Kind, bool]]:
    """Yield the questions that the model answers as the demo expects.

    Args:
        model: Checkpoint folder.
        numbers: Pictures of the test split to try.
    """
    pipeline = Pipeline.open(model)
    for number in numbers:
        for kind, needs_detail in TRIED:
            examples.QUESTIONS = ((number, kind, needs_detail),)
            try:
                [example] = examples.examples()
            except LookupError:
                continue
            if _holds(pipeline, example):
                yield number, kind, needs_detail


def _holds(pipeline: Pipeline, example: examples.Example) -> bool:
    """Ask it; a question in small print must also fail without zooming for as many tokens."""
    conversation = single_question(example.question)
    pixels = [np.asarray(example.picture.convert("RGB"))]
    sampling = Sampling(MAX_TOKENS)
    answer = pipeline.answer(conversation, pixels, Options(), sampling)
    if answer.text.strip() != example.expected or answer.route != example.route:
        return False
    if not example.needs_detail:
        return True
    budget = answer.num_coarse_tokens + answer.num_roi_tokens
    direct = Options(route="direct", max_visual_tokens=budget)
    coarse = pipeline.answer(conversation, pixels, direct, sampling)
    return coarse.text.strip() != example.expected


if __name__ == "__main__":
    given = sys.argv[1:]
    folder = Path(given[0]) if given else builtin_model()
    first, last = (int(given[1]), int(given[2])) if len(given) == 3 else (0, 40)
    for candidate in candidates(folder, range(first, last)):
        out.print(f"    {candidate},")
