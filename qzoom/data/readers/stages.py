"""The published training stages' files: pickles of plain data, one kind for each stage.

stage 1  list of dicts: image, prompt, text (generated), grounding_attn_o2i [H, W],
         sink_attn [H, W] (zeros where no head was chosen), uid, question_id, dataset, mode
stage 2  LLaVA-style JSON lines, see `llava.py`
stage 3  dict id -> dict: image, prompt, text (ground truth), res [tokens, ascending],
         ms_answers [answer at each resolution]
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from qzoom.data.readers.fields import text_of
from qzoom.data.readers.images import ImageFolder
from qzoom.data.readers.problems import BadRecord, Problems
from qzoom.data.readers.unpickle import load_plain
from qzoom.data.record import Record
from qzoom.errors import InvalidRequest

_Key = TypeVar("_Key", int, str)


@dataclass(frozen=True, slots=True)
class AttentionSample:
    """A record of stage 1: where the model looked while it answered.

    Attributes:
        record: Question and picture; its answer is the generated one.
        mode: "textual" or "natural", as the file says; "" without one.
        attention: [H, W] response-to-image attention, float32, finite, at least 0.
        sinks: [H, W] attention of the sink heads, float32; zeros without any.
    """

    record: Record
    mode: str
    attention: NDArray[np.float32]
    sinks: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TrajectorySample:
    """A record of stage 3: answers along a trajectory of resolutions.

    Attributes:
        record: Question and picture, with the ground truth as answer.
        max_tokens: Visual tokens of each resolution, ascending.
        answers: What the model answered at each of them.
    """

    record: Record
    max_tokens: tuple[int, ...]
    answers: tuple[str, ...]


def read_stage1(
    path: Path, problems: Problems, image_root: Path | None = None
) -> Iterator[AttentionSample]:
    """Read attention maps.

    Args:
        path: The pickle.
        problems: Takes what is skipped.
        image_root: Folder of the pictures; the pickle's own if not given.

    Raises:
        InvalidRequest: If the pickle asks for code, is broken or holds something else.
    """
    items = _load(path)
    if not isinstance(items, list):
        raise InvalidRequest(f"{path}: stage 1 is a list of records, not {type(items).__name__}")
    folder = ImageFolder(image_root or path.parent)
    for number, item in enumerate(items):
        where = f"{path.name}: item {number}"
        try:
            fields = _fields(item)
            attention = _map_of(fields, "grounding_attn_o2i")
            has_sinks = fields.get("sink_attn") is not None
            sinks = _map_of(fields, "sink_attn") if has_sinks else np.zeros_like(attention)
            if sinks.shape != attention.shape:
                shapes = f"{sinks.shape} and {attention.shape}"
                raise BadRecord("sink_attn and grounding_attn_o2i differ in shape", shapes)
            record = _record(fields, where, folder)
            yield AttentionSample(record, str(fields.get("mode", "")), attention, sinks)
        except BadRecord as error:
            problems.add(where, error)


def read_stage3(
    path: Path, problems: Problems, image_root: Path | None = None
) -> Iterator[TrajectorySample]:
    """Read answers at several resolutions.

    Args:
        path: The pickle.
        problems: Takes what is skipped.
        image_root: Folder of the pictures; the pickle's own if not given.

    Raises:
        InvalidRequest: If the pickle asks for code, is broken or holds something else.
    """
    items = _load(path)
    if not isinstance(items, dict):
        raise InvalidRequest(f"{path}: stage 3 is a dict of records, not {type(items).__name__}")
    folder = ImageFolder(image_root or path.parent)
    for key, item in items.items():
        where = f"{path.name}: id {str(key)[:40]!r}"
        try:
            fields = _fields(item)
            tokens = _listed(fields, "res", int)
            answers = _listed(fields, "ms_answers", str)
            if len(tokens) != len(answers) or not tokens:
                counts = f"{len(tokens)} and {len(answers)}"
                raise BadRecord("res and ms_answers differ in length", counts)
            if list(tokens) != sorted(set(tokens)) or tokens[0] < 1:
                raise BadRecord("res does not ascend", repr(tokens)[:60])
            record = _record({"id": str(key), **fields}, where, folder)
            yield TrajectorySample(record, tokens, answers)
        except BadRecord as error:
            problems.add(where, error)


def _load(path: Path) -> object:
    try:
        return load_plain(path)
    except BadRecord as error:
        raise InvalidRequest(f"{path}: {error}") from None
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}") from None


def _fields(item: object) -> dict[str, Any]:
    if not isinstance(item, dict) or not all(isinstance(key, str) for key in item):
        raise BadRecord("the record is no dictionary of named fields")
    return item


def _record(fields: Mapping[str, Any], where: str, folder: ImageFolder) -> Record:
    return Record(
        id=str(fields.get("uid", fields.get("id", fields.get("question_id", where)))),
        picture=folder.find(fields.get("image")),
        question=text_of(fields, "prompt"),
        answers=(text_of(fields, "text"),),
        group=str(fields.get("dataset", "")),
    )


def _map_of(fields: Mapping[str, Any], name: str) -> NDArray[np.float32]:
    value = fields.get(name)
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "fiu":
        raise BadRecord(f"{name} is no map [H, W]")
    found: NDArray[np.float32] = value.astype(np.float32)
    if not found.size or not np.isfinite(found).all() or (found < 0).any():
        raise BadRecord(f"{name} is empty or holds values that are no attention")
    return found


def _listed(fields: Mapping[str, Any], name: str, kind: type[_Key]) -> tuple[_Key, ...]:
    values = fields.get(name)
    values = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(values, (list, tuple)) or not all(
        isinstance(v, kind) and not isinstance(v, bool) for v in values
    ):
        raise BadRecord(f"{name} is no list of {kind.__name__}")
    return tuple(values)
