"""What does /openapi.json say? The schema of `RequestBody`, and every error.

The body is read by hand, bounded and strict, so FastAPI does not see it.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.params import Query

from qzoom.contracts.request import RequestBody
from qzoom.errors import QZoomError

_TEMPLATE = "#/components/schemas/{model}"

CHAT_OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": _TEMPLATE.format(model="RequestBody")}}
        },
    },
    "responses": {
        "200": {
            "description": "The answer: whole, or with `stream` as server-sent events",
            "content": {"application/json": {}, "text/event-stream": {}},
        }
    },
}

_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"enum": ["invalid_request_error", "rate_limit_error", "server_error"]},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
_RETRY_AFTER = {
    "retry-after": {
        "description": "Seconds after which a retry makes sense, where one does",
        "schema": {"type": "integer", "minimum": 1},
    }
}


def number_query(least: int, most: int, default: int) -> Query:
    """Describe a parameter that is a number, and is checked by hand for the sake of its error."""
    known = {"type": "integer", "minimum": least, "maximum": most, "default": default}
    return Query(json_schema_extra=known)


def _kinds(kind: type[QZoomError] = QZoomError) -> list[type[QZoomError]]:
    return [kind, *(below for one in kind.__subclasses__() for below in _kinds(one))]


def _error_responses() -> dict[str, Any]:
    """Describe each status that an error may have."""
    codes: dict[int, set[str]] = {}
    for kind in _kinds():
        codes.setdefault(kind.http_status, set()).add(kind.code)
    schema = {"$ref": _TEMPLATE.format(model="Error")}
    return {
        str(status): {
            "description": ", ".join(sorted(names)),
            "content": {"application/json": {"schema": schema}},
            **({"headers": _RETRY_AFTER} if status in {429, 503} else {}),
        }
        for status, names in sorted(codes.items())
    }


def add_request_schema(app: FastAPI) -> None:
    """Make the application's document carry the schemas that `CHAT_OPENAPI` refers to."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = RequestBody.model_json_schema(ref_template=_TEMPLATE)
            parts = schema.pop("$defs", {})
            app.openapi_schema = get_openapi(
                title=app.title, version=app.version, routes=app.routes
            )
            components = app.openapi_schema.setdefault("components", {}).setdefault("schemas", {})
            components |= parts | {"RequestBody": schema, "Error": _ERROR}
            _describe_errors(app.openapi_schema)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _describe_errors(document: dict[str, Any]) -> None:
    """Let every operation answer with every error, instead of FastAPI's own 422."""
    errors = _error_responses()
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"] = {**errors, **operation["responses"]}
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
