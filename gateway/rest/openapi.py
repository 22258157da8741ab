"""What does /openapi.json say about a question? The schema of `RequestBody`.

The body is read by hand, bounded and strict, so FastAPI does not see it.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from qzoom.contracts.request import RequestBody

_TEMPLATE = "#/components/schemas/{model}"

CHAT_OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": _TEMPLATE.format(model="RequestBody")}}
        },
    }
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
            components |= parts | {"RequestBody": schema}
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
