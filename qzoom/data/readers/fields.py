"""Take typed values out of a record that may hold anything."""

import math
from collections.abc import Mapping
from typing import Any

from qzoom.data.readers.problems import BadRecord
from qzoom.data.record import FloatBox


def text_of(item: Mapping[str, Any], *names: str) -> str:
    """Return the first of these fields that is there; numbers count as texts.

    Raises:
        BadRecord: If none is there, or it is no text, or empty.
    """
    for name in names:
        value = item.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise BadRecord(f"{name} is no text", repr(value)[:60])
        if not str(value).strip():
            raise BadRecord(f"{name} is empty")
        return str(value)
    raise BadRecord(f"the record has no {' or '.join(names)}")


def texts_of(item: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    """Return the first of these fields that is there, a text or a list of texts.

    Raises:
        BadRecord: If none is there, or it holds anything else.
    """
    for name in names:
        value = item.get(name)
        if value is None:
            continue
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        if not values or any(
            isinstance(v, bool) or not isinstance(v, (str, int, float)) for v in values
        ):
            raise BadRecord(f"{name} is neither a text nor a list of texts", repr(value)[:60])
        return tuple(str(v) for v in values)
    raise BadRecord(f"the record has no {' or '.join(names)}")


def box_of(item: Mapping[str, Any], name: str) -> FloatBox | None:
    """Return a box (x0, y0, x1, y1), None where there is none.

    Raises:
        BadRecord: If it is not four finite numbers, or has no area.
    """
    value = item.get(name)
    if value is None:
        return None
    is_box = isinstance(value, (list, tuple)) and len(value) == 4
    if not is_box or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in value):
        raise BadRecord(f"{name} is no box of four numbers", repr(value)[:60])
    x0, y0, x1, y1 = (float(v) for v in value)
    if x0 >= x1 or y0 >= y1:
        raise BadRecord(f"{name} has no area", repr(value)[:60])
    return x0, y0, x1, y1


def flag_of(item: Mapping[str, Any], name: str) -> bool | None:
    """Return a truth value, None where there is none.

    Raises:
        BadRecord: If it is anything else.
    """
    value = item.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise BadRecord(f"{name} is neither true nor false", repr(value)[:60])
