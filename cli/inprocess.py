"""How does `qzoom ask` answer without a server? With the pipeline, in this process."""

from pathlib import Path
from typing import Any

from cli.answer import Answered
from cli.console import Failure
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.model.images import Pixels
from qzoom.model.loading import CheckpointError
from qzoom.model.pipeline import Pipeline


def ask_pipeline(
    model: Path, picture: Pixels, question: str, options: dict[str, Any], max_tokens: int
) -> Answered:
    """Load a checkpoint and ask it one question about one picture.

    Args:
        model: Checkpoint folder.
        picture: [H, W, 3] RGB, uint8.
        question: What to ask.
        options: Fields of `Options`.
        max_tokens: Most tokens of the answer.

    Returns:
        The answer.

    Raises:
        Failure: If the folder cannot be used.
        InvalidRequest: If the picture or an option is not acceptable.
    """
    try:
        pipeline = Pipeline.open(model)
    except CheckpointError as error:
        raise Failure(str(error)) from None
    answer = pipeline.answer(
        single_question(question), [picture], Options(**options), Sampling(max_tokens)
    )
    proposal = answer.proposal
    return Answered(
        text=answer.text,
        route=answer.route,
        p_refine=answer.p_refine,
        tau_gate=answer.tau_gate if options["route"] == "auto" else None,
        box_px=proposal.box_px if proposal else None,
        box_score=proposal.score if proposal else None,
        tokens={"coarse": answer.num_coarse_tokens, "roi": answer.num_roi_tokens},
        # One request alone never waits.
        stage_ms={stage: (0.0, seconds * 1e3) for stage, seconds in answer.stage_s.items()},
        heatmap=answer.heatmap,
    )
