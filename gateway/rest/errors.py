"""How does an error look over REST? As OpenAI's clients expect it."""

import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from gateway.rest.door import CLOSED_MS
from qzoom.errors import Overloaded, QZoomError


def error_body(error: QZoomError) -> dict[str, Any]:
    """Build the body: `{"error": {message, type, param, code}}`."""
    if error.http_status == 429:
        kind = "rate_limit_error"
    else:
        kind = "server_error" if error.http_status >= 500 else "invalid_request_error"
    return {
        "error": {
            # Whatever a client sent may be quoted; half a character would break the encoding.
            "message": error.message.encode("utf-8", "replace").decode(),
            "type": kind,
            "param": error.param,
            "code": error.code,
        }
    }


def error_response(error: QZoomError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Build the whole response; with Retry-After where a retry makes sense.

    Args:
        error: What went wrong.
        headers: More headers, such as those about limits.
    """
    headers = dict(headers or {})
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, Overloaded) and error.closed_s:
        headers[CLOSED_MS] = str(round(error.closed_s * 1000))
    return JSONResponse(error_body(error), status_code=error.http_status, headers=headers)
