"""Read JSON lines, or one JSON list, item by item, each with the place where it stands."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from qzoom.data.readers.problems import BadRecord, Problems
from qzoom.errors import InvalidRequest

MAX_LINE_CHARS = 64 * 1024 * 1024
"""Longer lines are no records (a base64 picture of 40 MB fits)."""


def read_json_items(path: Path, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every JSON object of a file.

    Args:
        path: `.jsonl` with one object a line, or `.json` with one list of them.
        problems: Takes lines that are no JSON object.

    Yields:
        ("file:line" or "file:item", object).

    Raises:
        InvalidRequest: If the file cannot be read, or a `.json` file holds no list.
    """
    try:
        if path.suffix == ".json":
            yield from _whole(path, problems)
        else:
            yield from _by_line(path, problems)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}") from None


def _by_line(path: Path, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_CHARS):
            number += 1
            where = f"{path.name}:{number}"
            if len(line) == MAX_LINE_CHARS and not line.endswith(b"\n"):
                _skip_rest(file)
                problems.add(where, BadRecord(f"the line is longer than {MAX_LINE_CHARS} bytes"))
            elif line.strip():
                yield from _parsed(line, where, problems)


def _skip_rest(file: BinaryIO) -> None:
    while (part := file.readline(MAX_LINE_CHARS)) and not part.endswith(b"\n"):
        pass


def _parsed(line: bytes, where: str, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:  # also broken UTF-8
        problems.add(where, BadRecord("the line is no JSON", str(error)[:120]))
        return
    if isinstance(item, dict):
        yield where, item
    else:
        problems.add(where, BadRecord("the line is no JSON object"))


def _whole(path: Path, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        items = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path} is no JSON: {str(error)[:200]}") from None
    if not isinstance(items, list):
        raise InvalidRequest(f"{path} must hold a list of records, it is {type(items).__name__}")
    for number, item in enumerate(items):
        where = f"{path.name}: item {number}"
        if isinstance(item, dict):
            yield where, item
        else:
            problems.add(where, BadRecord("the item is no JSON object"))
