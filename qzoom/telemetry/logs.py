"""What happened, one JSON object per line: who, when, for which request.

A line holds `time level service event request_id trace_id` and fields named by `Attribute`.
Pixels, prompts and tokens never get in: a field has a name from the vocabulary and a short value.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

from qzoom.telemetry.names import Attribute, AttributeValue, Event

Fields = Mapping[Attribute, AttributeValue]

_LONGEST_TEXT = 256


class EventLog:
    """Writes the events of one service. One per process; building it again replaces it.

    Args:
        service: `gateway`, `encoder`, `gate`, `rpn` or `llm`.
        stream: Where lines go; standard error if not given.
        level: Lowest level of the standard `logging` module that is written.
    """

    def __init__(
        self, service: str, stream: TextIO | None = None, level: int = logging.INFO
    ) -> None:
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(_JsonLines(service))
        self._logger = logging.getLogger(f"qzoom.events.{service}")
        self._logger.handlers[:] = [handler]
        self._logger.propagate = False
        self._logger.setLevel(level)

    def info(self, event: Event, request_id: str, trace_id: str, fields: Fields) -> None:
        """Write what happens to every request."""
        self._write(logging.INFO, event, request_id, trace_id, fields)

    def warning(self, event: Event, request_id: str, trace_id: str, fields: Fields) -> None:
        """Write that a request was served, but not as it should have been."""
        self._write(logging.WARNING, event, request_id, trace_id, fields)

    def error(self, request_id: str, trace_id: str, error: BaseException) -> None:
        """Write a defect of ours with its traceback, which the client never sees."""
        self._write(logging.ERROR, Event.INTERNAL_ERROR, request_id, trace_id, {}, exc_info=error)

    def _write(
        self,
        level: int,
        event: Event,
        request_id: str,
        trace_id: str,
        fields: Fields,
        exc_info: BaseException | None = None,
    ) -> None:
        known = {"request_id": request_id, "trace_id": trace_id}
        shown = {name.value: value for name, value in fields.items()}
        self._logger.log(
            level, event.value, extra={"qzoom_fields": known | shown}, exc_info=exc_info
        )


class _JsonLines(logging.Formatter):
    """Turns a record into one line of JSON."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Write the record with its fields; long texts are cut."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "event": record.getMessage(),
        }
        for name, value in getattr(record, "qzoom_fields", {}).items():
            line[name] = value[:_LONGEST_TEXT] if isinstance(value, str) else value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, allow_nan=False)
