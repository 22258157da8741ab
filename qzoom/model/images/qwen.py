"""Pictures for Qwen2.5-VL and Qwen3-VL: one or two resizes, then patches in merge-block order.

The published evaluation first rounds a picture to multiples of 28 px (also for Qwen3-VL, whose
cells have 32) and then lets the processor resize it again; a crop meets the processor only.
"""

from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qzoom.contracts.budget import ImageRules, fetch_size, fit_size, token_limits
from qzoom.contracts.stages import Box
from qzoom.model.images.patches import Patches, Pixels, to_picture
from qzoom.model.images.settings import processor_settings
from qzoom.model.loading import Checkpoint, CheckpointError


class QwenPreprocessor:
    """Preprocessing by transformers' PIL processor, which every machine computes alike.

    Args:
        checkpoint: Gives patch size, token limits and, where there is one, the processor file.
        area_limits: (smallest, largest) area of a resized picture in pixels, of pictures and
            crops alike; None derives it from token limits. Reference vectors state pixels, which
            need not be whole cells.

    Raises:
        CheckpointError: If preprocessor_config.json contradicts the vision tower.
    """

    def __init__(self, checkpoint: Checkpoint, area_limits: tuple[int, int] | None = None) -> None:
        vision, config = checkpoint.hf_config.vision_config, checkpoint.qzoom
        settings = processor_settings(checkpoint)
        sizes = {
            "patch_size": vision.patch_size,
            "merge_size": vision.spatial_merge_size,
            "temporal_patch_size": vision.temporal_patch_size,
        }
        for name, value in sizes.items():
            if settings[name] != value:
                raise CheckpointError(
                    f"preprocessor_config.json has {name} {settings[name]}, "
                    f"the vision tower of {checkpoint.path} has {value}"
                )
        self._processor = Qwen2VLImageProcessorPil(
            image_mean=settings["image_mean"], image_std=settings["image_std"], **sizes
        )
        self._area_limits = area_limits
        self._roi_limits = config.roi_min_tokens, config.roi_max_tokens
        self.rules = ImageRules(
            cell_px=vision.patch_size * vision.spatial_merge_size,
            fixed_grid=None,
            fetch_resize=config.fetch_resize,
            min_tokens=config.coarse_min_tokens,
            max_tokens=config.coarse_max_tokens,
        )

    def coarse(self, image: Pixels, max_tokens: int | None = None) -> Patches:
        """Prepare a whole picture; see `Preprocessor.coarse`."""
        picture = to_picture(image)
        if self.rules.fetch_resize:
            picture = picture.resize(fetch_size(picture.size))
        limits = token_limits(self.rules.min_tokens, self.rules.max_tokens, max_tokens)
        return self._patch(picture, limits)

    def roi(self, image: Pixels, box_px: Box, max_tokens: int | None = None) -> Patches:
        """Prepare a crop; see `Preprocessor.roi`."""
        crop = to_picture(image).crop(box_px)
        return self._patch(crop, token_limits(*self._roi_limits, max_tokens))

    def _patch(self, picture: Image.Image, limits: tuple[int, int]) -> Patches:
        cell = self.rules.cell_px
        low, high = self._area_limits or (limits[0] * cell**2, limits[1] * cell**2)
        # Called for its checks: the processor's own error would not reach a client as a 400.
        width, height = fit_size(picture.size, cell, (low, high))
        size = {"shortest_edge": low, "longest_edge": high}
        batch = self._processor(images=[picture], size=size, return_tensors="np")
        return Patches(batch["pixel_values"], (height // cell, width // cell))
