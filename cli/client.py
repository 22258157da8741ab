"""How does the command line talk to a running system? With `qzoom.client`, failures as one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cli.console import USAGE_ERROR, Failure
from qzoom.errors import QZoomError

if TYPE_CHECKING:
    from qzoom.client import Answer, Client

DEFAULT_URL = "http://127.0.0.1:8000"


def get(url: str, path: str, timeout_s: float = 10.0) -> dict[str, Any]:
    """Fetch a JSON document.

    Raises:
        Failure: If the server is not there or answers with an error.
    """
    with _connected(url, None) as client:
        return client.get(path, timeout_s=timeout_s)


def ask_server(
    url: str,
    image: bytes,
    question: str,
    options: dict[str, Any],
    max_tokens: int,
    *,
    timeout_s: float,
    model: str | None = None,
) -> "Answer":
    """Ask one question about one picture.

    Args:
        url: Base address of the server: `http://...`, or `grpc://...` for gRPC.
        image: The picture's file.
        question: What to ask.
        options: The `qzoom` object of the request.
        max_tokens: Most tokens of the answer.
        timeout_s: Seconds until the question is given up.
        model: Name of the model; needed over gRPC.

    Raises:
        Failure: If the server is not there or answers with an error.
    """
    with _connected(url, model) as client:
        return client.ask(image, question, max_tokens=max_tokens, timeout_s=timeout_s, **options)


@contextmanager
def _connected(url: str, model: str | None) -> Iterator["Client"]:
    from qzoom.client import Client, NotConnected, Retries

    try:
        # Whoever sits at the terminal decides whether to ask again.
        with Client(url, model=model, retries=Retries(most=0)) as client:
            yield client
    except NotConnected as error:
        raise Failure(f"{error.message}; `qzoom serve` starts one") from None
    except QZoomError as error:
        can_mend = 400 <= error.http_status < 500
        raise Failure(error.message, USAGE_ERROR if can_mend else 1) from None
