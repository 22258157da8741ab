"""Whatever JSON a client sends, the answer is right or a 4xx of the known shape."""

import base64
import copy
import json
from io import BytesIO

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

PATH = "/v1/chat/completions"
TIMEOUT_S = 30
NUM_EXAMPLES = 150

_buffer = BytesIO()
Image.new("RGB", (3, 2)).save(_buffer, "PNG")
URL = "data:image/png;base64," + base64.b64encode(_buffer.getvalue()).decode()
VALID = {
    "model": "echo",
    "messages": [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": URL, "detail": "auto"}},
                {"type": "text", "text": "what is this?"},
            ],
        },
    ],
    "stream": False,
    "max_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.5,
    "seed": 1,
    "stop": ["x"],
    "n": 1,
    "logit_bias": {},
    "qzoom": {
        "route": "auto",
        "tau_gate": 0.5,
        "tau_roi": 0.5,
        "max_visual_tokens": 16,
        "max_roi_tokens": 16,
        "deadline_ms": 20_000,
        "explain": True,
    },
}

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["data:,", "data:image/png;base64,AAAA", "zoom", "user", "echo", "\udfff"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.sampled_from(list(VALID)), inner, max_size=4)
    ),
    max_leaves=12,
)


def places(value: object) -> list[tuple]:
    """List the paths of all values within a body."""
    found: list[tuple] = [()]
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        found += [(key, *path) for path in places(inner)]
    return found


@st.composite
def changed_bodies(draw) -> object:
    """A valid body with one to three values replaced, added or removed."""
    body = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(body)))
        if not path:
            body |= {draw(st.text(max_size=8)): draw(values)}
            continue
        parent = body
        for key in path[:-1]:
            parent = parent[key]
        if draw(st.booleans()):
            parent[path[-1]] = draw(values)
        else:
            del parent[path[-1]]
    return body


@pytest.fixture(scope="module")
def http(edge_server):
    with httpx.Client(base_url=edge_server.url, timeout=TIMEOUT_S) as client:
        yield client


@settings(
    max_examples=NUM_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=changed_bodies() | values)
def test_any_json_gets_an_answer_or_a_clear_refusal(http, body):
    response = http.post(
        PATH, content=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    assert response.headers["x-request-id"]
    if response.status_code == 200:
        assert response.text
        return
    error = response.json()["error"]
    # A deadline of a millisecond is a fair wish, and cannot be kept.
    assert response.status_code in range(400, 500) or error["code"] == "deadline_exceeded", error
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert len(error["message"]) < 500


@settings(
    max_examples=NUM_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    raw=st.binary(max_size=60)
    | st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=6)).map(
        lambda change: (
            (text := json.dumps(VALID).encode())[: change[0]] + change[1] + text[change[0] + 3 :]
        )
    )
)
def test_any_bytes_get_an_answer_or_a_clear_refusal(http, raw):
    response = http.post(PATH, content=raw, headers={"content-type": "application/json"})
    assert response.status_code == 200 or 400 <= response.status_code < 500, response.text
