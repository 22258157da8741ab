"""How is an API key's record written down? As JSON; `revoked` comes last (`lua/revoke.lua`)."""

import json
from collections.abc import Iterable
from dataclasses import asdict

from pydantic import TypeAdapter, ValidationError

from qzoom.store.messages import KeyRecord

_RECORD = TypeAdapter(KeyRecord)


def write(record: KeyRecord) -> str:
    """Write a record."""
    return json.dumps(asdict(record))


def read(text: str | bytes) -> KeyRecord:
    """Read a record.

    Raises:
        ValueError: If another version or hand wrote it.
    """
    return _RECORD.validate_json(text)


def read_all(texts: Iterable[str | bytes]) -> dict[str, KeyRecord]:
    """Read all records that can be read, by their ids; the others let nobody in."""
    found = {}
    for text in texts:
        try:
            record = read(text)
        except ValidationError:
            continue
        found[record.id] = record
    return found
