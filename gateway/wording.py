"""How is a broken rule told to the caller? With the field, its value and the limit."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from qzoom.errors import InvalidRequest, QZoomError, UnsupportedMedia

MAX_SHOWN_CHARS = 60
MAX_PATH_CHARS = 200

_Words = Callable[[Mapping[str, Any], str], str]
"""From (limits of the rule, shown value) to what follows the field's name."""

_WORDS: dict[str, _Words] = {
    "missing": lambda _c, _v: "is required",
    "extra_forbidden": lambda _c, _v: "is not a known field",
    "greater_than": lambda c, v: f"is {v}, must be above {_number(c['gt'])}",
    "greater_than_equal": lambda c, v: f"is {v}, at least {_number(c['ge'])}",
    "less_than": lambda c, v: f"is {v}, must be below {_number(c['lt'])}",
    "less_than_equal": lambda c, v: f"is {v}, at most {_number(c['le'])}",
    "finite_number": lambda _c, v: f"is {v}, must be a finite number",
    "too_short": lambda c, _v: f"has {c['actual_length']} items, at least {c['min_length']}",
    "too_long": lambda c, _v: f"has {c['actual_length']} items, at most {c['max_length']}",
    "string_too_short": lambda c, _v: f"is empty, at least {c['min_length']} character",
    "string_too_long": lambda c, v: f"is {v}, at most {c['max_length']} characters",
    "literal_error": lambda c, v: f"is {v}, must be {c['expected']}",
    "string_type": lambda _c, v: f"is {v}, must be a string",
    "string_unicode": lambda _c, _v: "is not valid Unicode text",
    "int_type": lambda _c, v: f"is {v}, must be a whole number",
    "int_from_float": lambda _c, v: f"is {v}, must be a whole number",
    "int_parsing_size": lambda _c, _v: "is too large a number",
    "float_type": lambda _c, v: f"is {v}, must be a number",
    "bool_type": lambda _c, v: f"is {v}, must be true or false",
    "list_type": lambda _c, v: f"is {v}, must be a list",
    "model_type": lambda _c, v: f"is {v}, must be an object",
}


def show(value: object) -> str:
    """Write a value of a request for an error message: short, ASCII, no contents of lists."""
    if isinstance(value, str):
        text = ascii(value[:MAX_SHOWN_CHARS])
        return text if len(value) <= MAX_SHOWN_CHARS else f"{text}..."
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return _number(value)
    return "a list" if isinstance(value, list) else "an object"


def _number(value: float) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else str(value)
    if value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    return str(value)


def field_path(location: Sequence[str | int]) -> str:
    """Write a location as `messages[0].content[1].text`, ASCII and not too long."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step}" if path else step
    return path[:MAX_PATH_CHARS].encode("ascii", "backslashreplace").decode()


def explain_violation(error: ValidationError) -> QZoomError:
    """Turn the first broken rule into the error that the caller sees."""
    details = error.errors(include_url=False)[0]
    return _explain(details)


def _explain(details: ErrorDetails) -> QZoomError:
    param = field_path(details["loc"]) or "body"
    words = _WORDS.get(details["type"])
    if words is None:
        said = details["msg"]
    else:
        said = words(details.get("ctx", {}), show(details["input"]))
    kind = UnsupportedMedia if details["type"] == "unsupported_media" else InvalidRequest
    return kind(f"{param}: {said}" if words is None else f"{param} {said}", param=param)
