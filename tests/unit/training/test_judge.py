"""The LLM judge against a real HTTP server."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from qzoom.errors import Unavailable
from training.labels.llm_judge import LlmJudge, Pair, parse_verdict

PAIR = Pair("What is {it}?", "6000", "The value is 6000", "7000")


@pytest.fixture
def endpoint():
    """Answers each request with the next (status, content) of `server.replies`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append((self.path, dict(self.headers), body))
            status, content = server.replies.pop(0)
            reply = {"choices": [{"message": {"content": content}}]}
            payload = json.dumps(reply if status == 200 else {"error": content}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.replies = [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def judge(server, **values):
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    found = LlmJudge(url, "judge", pause_s=0.001, **values)
    try:
        return found.judge([PAIR])
    finally:
        found.close()


def test_the_prompt_and_the_verdict(endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    endpoint.replies = [(200, "A: Yes\nB: No")]
    assert judge(endpoint) == [(True, False)]
    path, headers, body = endpoint.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    user = body["messages"][1]["content"]
    assert "Question: What is {it}?\nGround Truth: 6000\n" in user
    assert user.endswith("Respond in this exact format:\nA: [Yes/No]\nB: [Yes/No]\n")


def test_a_busy_judge_and_a_rambling_one_are_asked_again(endpoint):
    endpoint.replies = [(503, "busy"), (200, "Both are fine."), (200, "A: [Yes]\nB: [Yes]")]
    assert judge(endpoint) == [(True, True)]
    assert [r[2]["temperature"] for r in endpoint.requests] == [0.0, 0.7, 0.7]


def test_without_a_strict_verdict_there_is_none(endpoint):
    endpoint.replies = [(200, "A: Yes, B: No")] * 3
    assert judge(endpoint, attempts=3) == [None]


def test_a_judge_that_refuses_or_is_gone_ends_the_work(endpoint):
    endpoint.replies = [(401, "no key")]
    with pytest.raises(Unavailable, match="HTTP 401"):
        judge(endpoint)
    with pytest.raises(Unavailable, match="cannot be reached"):
        LlmJudge("http://127.0.0.1:9/v1", "x", attempts=2, pause_s=0.001).judge([PAIR])


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("A: Yes\nB: No", (True, False)),
        (" a: no\n\n b: yes \n", (False, True)),
        ("A: [Yes]\nB: [No].", (True, False)),
        ("A: Yes", None),
        ("B: No\nA: Yes", None),
        ("A: Yes\nB: No\nBecause", None),
        ("A: Maybe\nB: No", None),
        ("", None),
    ],
)
def test_the_parse_is_strict(text, verdict):
    assert parse_verdict(text) == verdict
