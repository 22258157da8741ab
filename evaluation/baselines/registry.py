"""All rivals by name."""

from pathlib import Path

from evaluation.baselines.attention import AttentionCrop
from evaluation.baselines.grounding_dino import GroundingDino
from evaluation.baselines.rival import Rival
from evaluation.baselines.scales import MultiScale
from evaluation.baselines.tiling import Tiling
from evaluation.baselines.vicrop import ViCrop
from qzoom.errors import InvalidRequest
from qzoom.model.pipeline import Pipeline

NAMES = ("attention", "vicrop", "scales", "tiling", "dino1", "dino2")
UNTRAINED = NAMES[:4]
"""Those that need no weights but the base model's."""


def open_rival(
    name: str, pipeline: Pipeline, *, detector: Path | None = None, general: str | None = None
) -> Rival:
    """Make a rival of a base model.

    Args:
        name: Of `NAMES`.
        pipeline: The base model.
        detector: Folder of GroundingDINO's weights, which the last two need.
        general: ViCrop's general question, for models that do not know its own words.

    Raises:
        InvalidRequest: If the name is unknown, or weights are missing.
    """
    match name:
        case "attention":
            return AttentionCrop(pipeline)
        case "vicrop":
            return ViCrop(pipeline) if general is None else ViCrop(pipeline, general=general)
        case "scales":
            return MultiScale(pipeline)
        case "tiling":
            return Tiling(pipeline)
        case "dino1" | "dino2":
            if detector is None:
                raise InvalidRequest(f"rival {name} needs a folder of GroundingDINO's weights")
            return GroundingDino(pipeline, detector, boxes=int(name[-1]))
    raise InvalidRequest(f"rival is {name!r}, must be one of {', '.join(NAMES)}")
