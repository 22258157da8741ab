"""preprocessor_config.json: what a folder without one means, and what conversion writes."""

from typing import Any

from qzoom.model.config import Family, QZoomConfig
from qzoom.model.loading import Checkpoint

_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
_NORMALISATION: dict[Family, tuple[list[float], list[float]]] = {
    "qwen2_5_vl": (_CLIP_MEAN, _CLIP_STD),
    "qwen3_vl": ([0.5] * 3, [0.5] * 3),
    "llava": (_CLIP_MEAN, _CLIP_STD),
}
"""Mean and deviation of the families' own processors."""


def processor_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Settings of the image processor: those of the folder, else the family's own."""
    default = default_settings(
        checkpoint.family, checkpoint.hf_config.vision_config, checkpoint.qzoom
    )
    return default | checkpoint.preprocessor_config


def default_settings(
    family: Family,
    vision: Any,  # noqa: ANN401 - one of transformers' vision configurations
    qzoom: QZoomConfig,
) -> dict[str, Any]:
    """Contents of preprocessor_config.json for a model of the family.

    Args:
        family: Of the backbone.
        vision: Configuration of its vision tower.
        qzoom: Gives the token limits.
    """
    mean, std = _NORMALISATION[family]
    settings: dict[str, Any] = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": mean,
        "image_std": std,
        "resample": 3,
        "rescale_factor": 1 / 255,
    }
    if family == "llava":
        side = vision.image_size
        settings |= {
            "image_processor_type": "CLIPImageProcessor",
            "crop_size": {"height": side, "width": side},
            "do_center_crop": True,
            "size": {"shortest_edge": side},
        }
    else:
        area = (vision.patch_size * vision.spatial_merge_size) ** 2
        settings |= {
            "image_processor_type": "Qwen2VLImageProcessor",
            "merge_size": vision.spatial_merge_size,
            "patch_size": vision.patch_size,
            "temporal_patch_size": vision.temporal_patch_size,
            "min_pixels": qzoom.coarse_min_tokens * area,
            "max_pixels": qzoom.coarse_max_tokens * area,
        }
    return settings
