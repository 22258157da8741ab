"""Did the vision tower get the same picture? Pixels against a lossless PNG and a checksum."""

import hashlib
from typing import Any

import numpy as np

from qzoom.model.images import Patches, Pixels, processor_settings
from qzoom.model.loading import Checkpoint
from qzoom.model.verify.report import CaseReport


def check_pixels(
    report: CaseReport,
    patches: Patches,
    picture: Pixels,
    recorded: dict[str, Any],
    checkpoint: Checkpoint,
) -> None:
    """Compare prepared pixels with the reference's picture and with its tensor.

    Args:
        report: Gets the checks.
        patches: What this code hands to the vision tower.
        picture: What the published code's vision tower saw [h, w, 3].
        recorded: Shape and SHA-256 of its tensor.
        checkpoint: Gives normalisation and patch sizes.
    """
    values = np.ascontiguousarray(patches.pixel_values)
    report.exact("pictures", values.shape, recorded["shape"])
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    report.exact("pictures", digest, recorded["sha256"])
    report.exact("pictures", _to_picture(patches, checkpoint), picture)


def _to_picture(patches: Patches, checkpoint: Checkpoint) -> Pixels:
    """Undo normalisation and patching; the rounding is exact, as steps of 1/255 are wide."""
    settings = processor_settings(checkpoint)
    mean, std = np.array(settings["image_mean"]), np.array(settings["image_std"])
    values = patches.pixel_values
    if values.ndim == 2:
        merge, px = settings["merge_size"], settings["patch_size"]
        frames = settings["temporal_patch_size"]
        height, width = patches.grid
        blocks = values.reshape(height, width, merge, merge, 3, frames, px, px)[:, :, :, :, :, 0]
        # (H, W, merge rows, merge columns, channel, y, x) to (channel, picture y, picture x).
        values = blocks.transpose(4, 0, 2, 5, 1, 3, 6).reshape(
            3, height * merge * px, width * merge * px
        )
    pixels = (values.transpose(1, 2, 0) * std + mean) * 255
    rounded: Pixels = np.rint(pixels).astype(np.uint8)
    return rounded
