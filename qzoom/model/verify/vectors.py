"""What is in a folder of reference vectors? Format: FORMAT.md beside them.

A case is NAME.json, NAME.npz and the pictures NAME.input.png, NAME.coarse.png and, where there
was a zoom, NAME.crop.png. Its checkpoint is a folder in the published layout.
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from qzoom.model.images import Pixels
from qzoom.model.loading import CheckpointError
from qzoom.model.loading.weights import read_json

ZOOM_PATHS = ("roi", "single_box", "mask")
DIRECT_PATHS = ("direct_gate", "direct_empty_mask", "no_roi")

_NUM_AXES = {
    "bbox_cells": 1,
    "bbox_pixels": 1,
    "component_boxes": 2,
    "generated_ids": 1,
    "ids_after": 1,
    "image_feats_every24": 2,
    "input_ids": 1,
    "logits": 2,
    "pos_before": 2,
    "prob_masked": 2,
    "roi_deepstack": 3,
    "roi_feats": 2,
    "roi_logits": 2,
    "sink_keep": 2,
    "smoothed": 2,
}
"""Arrays that are computed with, not only compared."""


class VectorError(ValueError):
    """A reference vector is missing, broken or of a kind that cannot be checked."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run of the published code.

    Attributes:
        name: File name without its ending.
        settings: Contents of NAME.json.
        arrays: Contents of NAME.npz.
        source: The picture that was asked about, as crops are taken from it.
        whole: The same as the coarse picture is made from it: the published code pastes a picture
            with transparency on white there, and drops the transparency of crops.
        coarse: What the vision tower saw of it, after resizing.
        crop: What it saw of the RoI; None on direct paths.
        checkpoint: Folder of the weights.
    """

    name: str
    settings: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    source: Pixels
    whole: Pixels
    coarse: Pixels
    crop: Pixels | None
    checkpoint: Path

    @property
    def path(self) -> str:
        """Which way the published code went, such as `roi` or `direct_gate`."""
        return str(self.settings["path"])

    def setting(self, key: str) -> Any:  # noqa: ANN401 - whatever the JSON holds
        """Return a setting that every case of the family has.

        Raises:
            VectorError: If this one lacks it.
        """
        if key not in self.settings:
            raise VectorError(f"{self.name}.json lacks {key}")
        return self.settings[key]

    def number(self, key: str) -> float:
        """Return a setting that is a number.

        Raises:
            VectorError: If this case lacks it or it is of another type.
        """
        value = self.setting(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise VectorError(f"{self.name}.json has {key} {value!r}, which is not a number")
        return value

    def pixels(self, key: str) -> dict[str, Any]:
        """Return what is recorded of a tensor of pixels: its shape and SHA-256.

        Raises:
            VectorError: If this case lacks it.
        """
        value = self.setting(key)
        if not isinstance(value, dict) or not {"shape", "sha256"} <= set(value):
            raise VectorError(f"{self.name}.json has {key} without shape and sha256")
        return value

    def array(self, key: str) -> NDArray[Any]:
        """Return an array that every case on this path has.

        Raises:
            VectorError: If this one lacks it.
        """
        if key not in self.arrays:
            raise VectorError(f"{self.name}.npz lacks {key}")
        return self.arrays[key]


def find_cases(folder: Path) -> list[Path]:
    """List the JSON files of all cases below a folder, sorted.

    Raises:
        VectorError: If there is no folder, no case in it, or arrays without their JSON file.
    """
    if not folder.is_dir():
        raise VectorError(f"{folder} is not a folder")
    # Checkpoints lie among the cases and hold JSON files of their own.
    models = {path.parent for path in folder.rglob("config.json")}
    found = sorted(path for path in folder.rglob("*.json") if path.parent not in models)
    cases = [path for path in found if _is_case(path)]
    if not cases:
        raise VectorError(f"{folder} holds no reference vectors (NAME.json with NAME.npz)")
    known = {path.with_suffix("") for path in cases}
    orphans = [path for path in sorted(folder.rglob("*.npz")) if path.with_suffix("") not in known]
    if orphans:
        raise VectorError(f"{orphans[0]} has no {orphans[0].stem}.json beside it")
    return cases


def _is_case(path: Path) -> bool:
    """Tell cases, broken ones too, from other JSON files such as a list of contents."""
    if path.with_suffix(".npz").is_file():
        return True
    try:
        return not {"checkpoint", "path"}.isdisjoint(read_json(path))
    except CheckpointError:
        return True


def read_case(path: Path) -> Case:
    """Read one case.

    Args:
        path: Its JSON file.

    Raises:
        VectorError: If a file or an entry is missing or broken.
    """
    try:
        settings = read_json(path)
    except CheckpointError as error:
        raise VectorError(str(error)) from error
    if settings.get("path") not in (*ZOOM_PATHS, *DIRECT_PATHS):
        raise VectorError(
            f"{path} has path {settings.get('path')!r}, known are "
            f"{', '.join((*ZOOM_PATHS, *DIRECT_PATHS))}"
        )
    checkpoint = settings.get("checkpoint")
    if not isinstance(checkpoint, str) or not (path.parent / checkpoint).is_dir():
        raise VectorError(f"{path} names the checkpoint {checkpoint!r}, which is not a folder")
    has_crop = settings["path"] in ZOOM_PATHS
    return Case(
        name=path.stem,
        settings=settings,
        arrays=_read_arrays(path.with_suffix(".npz")),
        source=_read_picture(path.with_suffix(".input.png")),
        whole=_read_picture(path.with_suffix(".input.png"), on_white=True),
        coarse=_read_picture(path.with_suffix(".coarse.png")),
        crop=_read_picture(path.with_suffix(".crop.png")) if has_crop else None,
        checkpoint=path.parent / checkpoint,
    )


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise VectorError(f"{path} cannot be read: {error}") from error
    for name, num_axes in _NUM_AXES.items():
        if name in arrays and (
            arrays[name].dtype.kind not in "biuf" or arrays[name].ndim != num_axes
        ):
            found = f"{arrays[name].dtype} {list(arrays[name].shape)}"
            raise VectorError(f"{path} has {name} {found}, not numbers on {num_axes} axes")
    return arrays


def _read_picture(path: Path, *, on_white: bool = False) -> Pixels:
    try:
        with Image.open(path) as picture:
            if not on_white or picture.mode != "RGBA":
                return np.asarray(picture.convert("RGB"))
            white = Image.new("RGB", picture.size, "white")
            white.paste(picture, mask=picture.getchannel("A"))
            return np.asarray(white)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
        raise VectorError(f"{path} cannot be read: {error}") from error
