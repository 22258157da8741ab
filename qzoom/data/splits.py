"""Disjoint seed ranges, so that no test picture can ever have been trained on."""

from typing import Literal

Split = Literal["train", "val", "test"]

RANGE_SIZE = 1 << 40
_OFFSETS: dict[str, int] = {"train": 0, "val": RANGE_SIZE, "test": 2 * RANGE_SIZE}


def scene_seed(split: Split, index: int) -> int:
    """Seed of picture `index` of a split.

    Args:
        split: Name of the split.
        index: Number of the picture, 0 <= index < 2**40.

    Returns:
        A seed that no other split can produce.

    Raises:
        ValueError: If the split is unknown or the index out of range.
    """
    if split not in _OFFSETS:
        raise ValueError(f"split is {split!r}, must be one of {', '.join(_OFFSETS)}")
    if not 0 <= index < RANGE_SIZE:
        raise ValueError(f"index is {index}, must be in [0, {RANGE_SIZE})")
    return _OFFSETS[split] + index
