"""The official openai client, unchanged, against a real socket."""

import base64

import openai
import pytest

TIMEOUT_S = 20


@pytest.fixture
def client(edge_server):
    with openai.OpenAI(
        base_url=f"{edge_server.url}/v1", api_key="none", timeout=TIMEOUT_S, max_retries=0
    ) as client:
        yield client


@pytest.fixture
def messages(picture):
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    return [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": url}},
            ],
        }
    ]


def test_a_question_is_answered(client, messages):
    answer = client.chat.completions.create(model="echo", messages=messages)
    assert answer.choices[0].message.content == "what is this? [64x48]"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 40 + 4
    assert answer.qzoom["route"] == "direct"
    assert answer.qzoom["stage_ms"] == {"gate.prefill": {"queue": 0.5, "compute": 2.0}}
    assert answer.id == f"chatcmpl-{answer._request_id}"


def test_a_stream_gives_the_same_text(client, messages):
    chunks = list(
        client.chat.completions.create(
            model="echo",
            messages=messages,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"qzoom": {"route": "zoom", "explain": True}},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "what is this? [64x48]"
    assert chunks[0].qzoom["route"] == "zoom"
    assert chunks[0].qzoom["boxes"] == [{"image": 0, "box": [0, 0, 64, 48], "score": 0.5}]
    assert chunks[0].qzoom["heatmap"] == {"image": 0, "grid": [2, 3], "values": [[0.25] * 3] * 2}
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert "stage_ms" in chunks[-2].qzoom
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 4


def test_an_answer_can_be_sent_back_as_a_turn(client, messages):
    first = client.chat.completions.create(model="echo", messages=messages)
    again = client.chat.completions.create(
        model="echo",
        messages=[
            {"role": "developer", "content": "be brief"},
            *messages,
            first.choices[0].message,
            {"role": "user", "content": "and now?"},
        ],
        user="somebody",
        metadata={"a": "b"},
        frequency_penalty=0,
        response_format={"type": "text"},
        max_completion_tokens=3,
    )
    assert again.choices[0].message.content == "and now? [64x48]"


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["echo"]
    assert client.models.retrieve("echo").owned_by == "qzoom"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_errors_become_the_clients_exceptions(client, messages):
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="echo", messages=messages, temperature=3)
    assert bad.value.param == "temperature"
    assert bad.value.code == "invalid_request"
    assert "temperature is 3, at most 2" in bad.value.message
    assert bad.value.request_id
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", messages=messages)
    messages[0]["content"][0]["text"] = "refuse"
    with pytest.raises(openai.RateLimitError) as full:
        client.chat.completions.create(model="echo", messages=messages)
    assert full.value.response.headers["retry-after"] == "3"
    messages[0]["content"][0]["text"] = "bug"
    with pytest.raises(openai.InternalServerError) as defect:
        client.chat.completions.create(model="echo", messages=messages, stream=True)
    assert "secret" not in str(defect.value)
    assert defect.value.request_id in defect.value.message


def test_a_stream_that_breaks_says_so(client, messages):
    messages[0]["content"][0]["text"] = "break off"
    stream = client.chat.completions.create(model="echo", messages=messages, stream=True)
    with pytest.raises(openai.APIError, match="llm service is gone"):
        list(stream)


async def test_the_async_client_works(edge_server, messages):
    async with openai.AsyncOpenAI(
        base_url=f"{edge_server.url}/v1", api_key="none", timeout=TIMEOUT_S, max_retries=0
    ) as client:
        answer = await client.chat.completions.create(model="echo", messages=messages)
    assert answer.choices[0].message.content == "what is this? [64x48]"
