"""Pictures for LLaVA-1.5: always 336 x 336 pixels, padded to a square or squashed."""

import numpy as np
from PIL import Image

from qzoom.contracts.budget import ImageRules, check_fixed_budget, coarse_grid
from qzoom.contracts.stages import Box
from qzoom.model.images.patches import Patches, Pixels, to_picture
from qzoom.model.images.settings import processor_settings
from qzoom.model.loading import Checkpoint


class LlavaPreprocessor:
    """Preprocessing for a CLIP tower with a fixed input size.

    Args:
        checkpoint: Gives the tower's sizes, the crop rule and, where there is one, the processor
            file.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        vision, settings = checkpoint.hf_config.vision_config, processor_settings(checkpoint)
        side = vision.image_size // vision.patch_size
        self._side_px = vision.image_size
        self._mean = np.array(settings["image_mean"], np.float32)
        self._std = np.array(settings["image_std"], np.float32)
        self._background = tuple(int(255 * value) for value in self._mean.tolist())
        self._squash_crop = checkpoint.qzoom.crop_resize == "squash"
        self.rules = ImageRules(
            cell_px=vision.patch_size,
            fixed_grid=(side, side),
            fetch_resize=False,
            min_tokens=side**2,
            max_tokens=side**2,
        )

    def coarse(self, image: Pixels, max_tokens: int | None = None) -> Patches:
        """Prepare a whole picture; see `Preprocessor.coarse`."""
        picture = to_picture(image)
        coarse_grid(picture.size, self.rules, max_tokens)
        return self._pad(picture)

    def roi(self, image: Pixels, box_px: Box, max_tokens: int | None = None) -> Patches:
        """Prepare a crop; see `Preprocessor.roi`.

        A box of no area, which the published rule can give where the RoI lies in the padding,
        becomes a black picture.
        """
        check_fixed_budget(self.rules.max_tokens, max_tokens, "qzoom.max_roi_tokens")
        x0, y0, x1, y1 = box_px
        if x1 <= x0 or y1 <= y0:
            return self._normalise(Image.new("RGB", (self._side_px, self._side_px)))
        crop = to_picture(image).crop(box_px)
        if not self._squash_crop:
            return self._pad(crop)
        size = (self._side_px, self._side_px)
        return self._normalise(crop.resize(size, Image.Resampling.BILINEAR))

    def _pad(self, picture: Image.Image) -> Patches:
        width, height = picture.size
        longest = max(width, height)
        square = Image.new("RGB", (longest, longest), self._background)
        square.paste(picture, ((longest - width) // 2, (longest - height) // 2))
        return self._normalise(
            square.resize((self._side_px, self._side_px), Image.Resampling.BICUBIC)
        )

    def _normalise(self, picture: Image.Image) -> Patches:
        scaled = (np.asarray(picture) * (1 / 255)).astype(np.float32)
        pixel_values = ((scaled - self._mean) / self._std).transpose(2, 0, 1)
        assert self.rules.fixed_grid is not None
        return Patches(np.ascontiguousarray(pixel_values), self.rules.fixed_grid)
