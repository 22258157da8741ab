"""Which of OpenAI's fields do we know? Honoured, accepted where they change nothing, or ignored.

Honoured fields are those of `RequestBody`. The table in docs/api.md is written from this one.
"""

import json
from collections.abc import Mapping
from typing import Any

from gateway.wording import show
from qzoom.errors import InvalidRequest

IGNORED = frozenset({"user", "metadata", "store", "service_tier"})
"""They say who asks or what to keep; the answer does not depend on them."""

NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""Values that change nothing, beside null; with any other the field is refused by name."""

_MESSAGE_IGNORED = frozenset({"name"})
_MESSAGE_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "refusal": (),
    "audio": (),
    "tool_calls": ([],),
    "function_call": (),
    "annotations": ([],),
}
"""What OpenAI's client adds when an answer is sent back as a turn."""


def known_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what `RequestBody` knows or shall refuse; drop what changes nothing.

    Raises:
        InvalidRequest: If a field is set that is not supported.
    """
    fields = _drop_neutral(body, NEUTRAL, IGNORED, "")
    if fields.get("stream_options") is not None and fields.get("stream") is not True:
        raise InvalidRequest(
            "stream_options is given, which needs stream: true", param="stream_options"
        )
    messages = fields.get("messages")
    if isinstance(messages, list):
        fields["messages"] = [
            _known_message(message, f"messages[{i}].") if isinstance(message, dict) else message
            for i, message in enumerate(messages)
        ]
    return fields


def _known_message(message: Mapping[str, Any], path: str) -> dict[str, Any]:
    if message.get("role") in ("tool", "function"):
        raise InvalidRequest(
            f"{path}role is {show(message['role'])}: tools are not supported", param=f"{path}role"
        )
    return _drop_neutral(message, _MESSAGE_NEUTRAL, _MESSAGE_IGNORED, path)


def _drop_neutral(
    fields: Mapping[str, Any],
    neutral: Mapping[str, tuple[object, ...]],
    ignored: frozenset[str],
    path: str,
) -> dict[str, Any]:
    kept = {}
    for name, value in fields.items():
        if name in ignored:
            continue
        if name not in neutral:
            kept[name] = value
        elif value is not None and not any(_same(value, other) for other in neutral[name]):
            allowed = ", ".join(map(json.dumps, neutral[name]))
            what = (
                f"is {show(value)}, only {allowed} is supported" if allowed else "is not supported"
            )
            raise InvalidRequest(f"{path}{name} {what}", param=f"{path}{name}")
    return kept


def _same(value: object, other: object) -> bool:
    """Compare as JSON does: true is not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other
