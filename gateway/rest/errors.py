"""How does an error look over REST? As OpenAI's clients expect it."""

from typing import Any

from starlette.responses import JSONResponse

from qzoom.errors import QZoomError


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


def error_response(error: QZoomError) -> JSONResponse:
    """Build the whole response; with Retry-After where a retry makes sense."""
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    return JSONResponse(error_body(error), status_code=error.http_status, headers=headers)
