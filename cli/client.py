"""How does the command line talk to a running system? Over its public REST interface."""

import base64
from typing import Any

import httpx

from cli.console import USAGE_ERROR, Failure

DEFAULT_URL = "http://127.0.0.1:8000"
_CONNECT_S = 5.0


def get(url: str, path: str, timeout_s: float = 10.0) -> dict[str, Any]:
    """Fetch a JSON document.

    Raises:
        Failure: If the server is not there or answers with an error.
    """
    return _send("GET", url, path, timeout_s, None)


def ask_server(
    url: str,
    image: bytes,
    media_type: str,
    question: str,
    qzoom: dict[str, Any],
    max_tokens: int,
    timeout_s: float,
) -> dict[str, Any]:
    """Ask one question about one picture.

    Args:
        url: Base address of the server.
        image: The picture's file.
        media_type: Its type, such as `image/png`.
        question: What to ask.
        qzoom: The `qzoom` object of the request.
        max_tokens: Most tokens of the answer.
        timeout_s: Seconds until the question is given up.

    Returns:
        The chat completion.

    Raises:
        Failure: If the server is not there or answers with an error.
    """
    data_url = f"data:{media_type};base64,{base64.b64encode(image).decode('ascii')}"
    content = [
        {"type": "image_url", "image_url": {"url": data_url}},
        {"type": "text", "text": question},
    ]
    model = get(url, "/v1/models")["data"][0]["id"]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "qzoom": qzoom,
    }
    return _send("POST", url, "/v1/chat/completions", timeout_s, body)


def _send(
    method: str, url: str, path: str, timeout_s: float, body: dict[str, Any] | None
) -> dict[str, Any]:
    timeout = httpx.Timeout(timeout_s, connect=_CONNECT_S)
    try:
        reply = httpx.request(method, url.rstrip("/") + path, json=body, timeout=timeout)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise Failure(f"{url!r} is no address of a server: {error}") from None
    except httpx.ConnectError:
        raise Failure(f"no server at {url}; `qzoom serve` starts one") from None
    except httpx.TimeoutException:
        raise Failure(f"{url} did not answer within {timeout_s:g} s", exit_code=1) from None
    except httpx.HTTPError as error:
        raise Failure(f"the connection to {url} broke: {error}", exit_code=1) from None
    if reply.is_error:
        raise Failure(_reason(reply), USAGE_ERROR if reply.is_client_error else 1)
    try:
        document = reply.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Failure(f"{url}{path} did not answer with a JSON object; is it Q-Zoom Serve?")
    return document


def _reason(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {reply.status_code} {reply.reason_phrase}"
