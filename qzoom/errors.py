"""Which things can go wrong, and what each means on the wire.

The one table from exception to HTTP status and gRPC code (docs/api.md is written from it):

    QZoomError                    gRPC                 HTTP  what the caller does
    +-- InvalidRequest            INVALID_ARGUMENT     400   fix the request
    +-- Unauthenticated           UNAUTHENTICATED      401   say who asks, with a valid key or token
    +-- Forbidden                 PERMISSION_DENIED    403   nothing; the operator does not allow it
    +-- NotFound                  NOT_FOUND            404   ask for something that exists
    +-- KeyInUse                  ABORTED              409   wait for the request with the same key
    +-- TooLarge                  INVALID_ARGUMENT     413   send less
    +-- UnsupportedMedia          INVALID_ARGUMENT     415   send another format
    +-- KeyReused                 FAILED_PRECONDITION  422   take a new Idempotency-Key
    +-- Overloaded                RESOURCE_EXHAUSTED   429   retry after `retry_after_s`
    +-- QuotaExceeded             RESOURCE_EXHAUSTED   429   retry after `retry_after_s`
    +-- Cancelled                 CANCELLED            499   nothing; the client went away
    +-- StateLost                 ABORTED              503   retry; the gateway ran the stages again
    +-- Unavailable               UNAVAILABLE          503   retry with back-off
    +-- DeadlineExceeded          DEADLINE_EXCEEDED    504   allow more time
    (anything else)               INTERNAL             500   a defect of ours; quote the request id
"""

from typing import ClassVar


class QZoomError(Exception):
    """Base of every error that a caller may see.

    Args:
        message: What is wrong, with the value and the limit; safe to show to the client.
        param: Path of the offending request field, such as `messages[0].content[1].image_url`.
        retry_after_s: Seconds after which a retry makes sense, or None.
    """

    http_status: ClassVar[int] = 500
    grpc_code: ClassVar[str] = "INTERNAL"
    code: ClassVar[str] = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        """Survive a trip between processes with the keyword arguments intact."""
        return (_rebuild, (type(self), self.message, self.param, self.retry_after_s))


def _rebuild(
    kind: type[QZoomError], message: str, param: str | None, retry_after_s: float | None
) -> QZoomError:
    return kind(message, param=param, retry_after_s=retry_after_s)


class InvalidRequest(QZoomError):
    """A field is missing, of the wrong type, out of range or not supported."""

    http_status = 400
    grpc_code = "INVALID_ARGUMENT"
    code = "invalid_request"


class Unauthenticated(QZoomError):
    """Nobody knows who asks: the key or token is missing, wrong, expired or revoked."""

    http_status = 401
    grpc_code = "UNAUTHENTICATED"
    code = "unauthenticated"


class Forbidden(QZoomError):
    """The caller may not do this."""

    http_status = 403
    grpc_code = "PERMISSION_DENIED"
    code = "forbidden"


class NotFound(QZoomError):
    """The named model, trace or path does not exist."""

    http_status = 404
    grpc_code = "NOT_FOUND"
    code = "not_found"


class TooLarge(QZoomError):
    """The body, an image, the prompt or the number of images exceeds a limit."""

    http_status = 413
    grpc_code = "INVALID_ARGUMENT"
    code = "too_large"


class UnsupportedMedia(QZoomError):
    """The bytes are not an image of an accepted format, or are broken."""

    http_status = 415
    grpc_code = "INVALID_ARGUMENT"
    code = "unsupported_media"


class Overloaded(QZoomError):
    """A bounded queue is full.

    Attributes:
        closed_s: Seconds in which no request of this caller can find room; 0 if that is unknown.
            A note from gateway to proxy, which clients are not told.
    """

    http_status = 429
    grpc_code = "RESOURCE_EXHAUSTED"
    code = "overloaded"
    closed_s: float = 0.0


class QuotaExceeded(QZoomError):
    """The tenant has used what it may use in a minute, or at the same time."""

    http_status = 429
    grpc_code = "RESOURCE_EXHAUSTED"
    code = "quota_exceeded"


class Cancelled(QZoomError):
    """The client went away before the answer was complete."""

    http_status = 499
    grpc_code = "CANCELLED"
    code = "cancelled"


class StateLost(QZoomError):
    """A stage died and took the state of the request with it."""

    http_status = 503
    grpc_code = "ABORTED"
    code = "state_lost"


class Unavailable(QZoomError):
    """A stage is not ready, draining or gone."""

    http_status = 503
    grpc_code = "UNAVAILABLE"
    code = "unavailable"


class DeadlineExceeded(QZoomError):
    """The request's deadline passed before the answer was complete."""

    http_status = 504
    grpc_code = "DEADLINE_EXCEEDED"
    code = "deadline_exceeded"


class KeyInUse(QZoomError):
    """A request with the same Idempotency-Key is being worked on."""

    http_status = 409
    grpc_code = "ABORTED"
    code = "idempotency_key_in_use"


class KeyReused(QZoomError):
    """The Idempotency-Key belongs to another request."""

    http_status = 422
    grpc_code = "FAILED_PRECONDITION"
    code = "idempotency_key_reused"
