"""REST, gRPC and the official client against the real system behind Serve's proxies."""

import json

import grpc
import httpx
import openai
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from ray.serve.generated import serve_pb2, serve_pb2_grpc

from qzoom.pb import qzoom_pb2 as pb
from qzoom.pb import qzoom_pb2_grpc

pytestmark = pytest.mark.cluster
TIMEOUT_S = 60.0
CHUNK_BYTES = 64 * 1024
STAGES = {
    "encoder.coarse",
    "gate.prefill",
    "rpn.propose",
    "encoder.roi",
    "llm.resume",
    "llm.decode",
}
QUESTION = "What is it?"


@pytest.fixture(scope="module")
def channel(cluster):
    with grpc.insecure_channel(cluster.grpc_target) as opened:
        yield opened


@pytest.fixture(scope="module")
def stub(channel):
    return qzoom_pb2_grpc.QZoomStub(channel)


@pytest.fixture(scope="module")
def client(cluster):
    with openai.OpenAI(
        base_url=f"{cluster.url}/v1", api_key="none", max_retries=0, timeout=TIMEOUT_S
    ) as opened:
        yield opened


@pytest.fixture
def asked(cluster, image_file):
    """Build a gRPC question about the same picture as `body`'s."""

    def build(source=None, **options):
        source = source or pb.ImageUrl(data=image_file)
        content = [pb.Part(image_url=source), pb.Part(text=QUESTION)]
        return pb.AnswerRequest(
            model=cluster.model,
            messages=[pb.Message(role=pb.ROLE_USER, content=content)],
            max_tokens=6,
            qzoom=pb.Options(**options),
        )

    return build


def post(cluster, body, **options):
    return httpx.post(f"{cluster.url}/v1/chat/completions", json=body, timeout=TIMEOUT_S, **options)


def test_rest_shows_how_the_answer_came_about(cluster, body):
    # A picture that no other test asks about: no stage may find it in a cache.
    unseen = body(QUESTION, seed=7919, route="zoom", tau_roi=0.05, explain=True)
    response = post(cluster, unseen)
    assert response.status_code == 200
    shown = response.json()["qzoom"]
    assert shown["route"] == "zoom"
    assert set(shown["stage_ms"]) == STAGES
    assert all(time["compute"] > 0 for time in shown["stage_ms"].values())
    (box,) = shown["boxes"]
    left, upper, right, lower = box["box"]
    assert 0 <= left < right <= 300
    assert 0 <= upper < lower <= 200
    assert shown["heatmap"]


def test_rest_and_grpc_give_the_same_answer(cluster, body, stub, asked):
    by_rest = post(cluster, body(QUESTION, route="zoom", tau_roi=0.05)).json()
    by_grpc = stub.Answer(asked(route=pb.ROUTE_ZOOM, tau_roi=0.05), timeout=TIMEOUT_S)
    assert by_grpc.text == by_rest["choices"][0]["message"]["content"]
    assert by_grpc.started.route == pb.ROUTE_ZOOM
    assert by_grpc.finished.prompt_tokens == by_rest["usage"]["prompt_tokens"]


def test_grpc_streams_the_same_text(stub, asked):
    whole = stub.Answer(asked(), timeout=TIMEOUT_S)
    events = list(stub.AnswerStream(asked(), timeout=TIMEOUT_S))
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds[0], kinds[-1]) == ("started", "finished")
    assert "".join(event.delta.text for event in events) == whole.text


def test_grpc_takes_pictures_in_pieces(stub, asked, image_file):
    def upload():
        for start in range(0, len(image_file), CHUNK_BYTES):
            chunk = image_file[start : start + CHUNK_BYTES]
            yield pb.UploadRequest(chunk=pb.ImageChunk(data=chunk))
        yield pb.UploadRequest(question=asked(pb.ImageUrl(upload=0)))

    answer = stub.UploadAndAnswer(upload(), timeout=TIMEOUT_S)
    assert answer.text == stub.Answer(asked(), timeout=TIMEOUT_S).text


def test_errors_mean_the_same_on_both(cluster, body, stub, asked):
    refused = post(cluster, body(tau_gate=1.5))
    with pytest.raises(grpc.RpcError) as raised:
        stub.Answer(asked(tau_gate=1.5), timeout=TIMEOUT_S)
    assert refused.status_code == 400
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == refused.json()["error"]["message"]
    assert dict(raised.value.trailing_metadata())["qzoom-param"] == "qzoom.tau_gate"


def test_a_prompt_that_does_not_fit_is_refused_with_its_length(cluster, body):
    refused = post(cluster, body("word " * 1500))
    assert refused.status_code == 413
    assert "at most 1023" in refused.json()["error"]["message"]


def test_messages_beyond_the_limit_are_refused_by_grpc(stub, asked):
    huge = asked(pb.ImageUrl(data=bytes(33 * 1024 * 1024)))
    with pytest.raises(grpc.RpcError) as raised:
        stub.Answer(huge, timeout=TIMEOUT_S)
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_long_bodies_are_refused(cluster):
    refused = httpx.post(
        f"{cluster.url}/v1/chat/completions", content=bytes(40 * 1024 * 1024), timeout=TIMEOUT_S
    )
    assert refused.status_code == 413


def test_the_openai_client_works_unchanged(client, cluster, body):
    asked = body(QUESTION)
    messages = asked["messages"]
    whole = client.chat.completions.create(model=cluster.model, messages=messages, max_tokens=6)
    chunks = list(
        client.chat.completions.create(
            model=cluster.model,
            messages=messages,
            max_tokens=6,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert [model.id for model in client.models.list()] == [cluster.model]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", messages=messages)


def test_a_stream_ends_with_done(cluster, body):
    with httpx.stream(
        "POST",
        f"{cluster.url}/v1/chat/completions",
        json=body(QUESTION, stream=True),
        timeout=TIMEOUT_S,
    ) as response:
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    first, last = json.loads(lines[0][6:]), json.loads(lines[-2][6:])
    assert first["qzoom"]["route"] in {"direct", "zoom"}
    assert last["qzoom"]["stage_ms"]["llm.decode"]["compute"] > 0


def test_reflection_lists_the_services(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (reply,) = stub.ServerReflectionInfo(iter([request]), timeout=TIMEOUT_S)
    names = {service.name for service in reply.list_services_response.service}
    assert {"qzoom.v1.QZoom", "grpc.health.v1.Health"} <= names


def test_both_health_services_answer(channel):
    by_ray = serve_pb2_grpc.RayServeAPIServiceStub(channel)
    assert by_ray.Healthz(serve_pb2.HealthzRequest(), timeout=TIMEOUT_S).message == "success"
    standard = health_pb2_grpc.HealthStub(channel)
    status = standard.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S).status
    assert status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as raised:
        standard.Check(health_pb2.HealthCheckRequest(service="nothing"), timeout=TIMEOUT_S)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_readiness_tells_what_each_service_holds(cluster):
    ready = httpx.get(f"{cluster.url}/readyz", timeout=TIMEOUT_S).json()
    assert ready["status"] == "ready"
    assert [status["service"] for status in ready["services"]] == ["encoder", "gate", "rpn", "llm"]
    for status in ready["services"]:
        assert status["load_s"] > 0
        assert status["memory_bytes"] > status["parameter_bytes"] > 0


def test_bytes_that_are_no_message_are_the_clients_mistake(channel):
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/qzoom.v1.QZoom/Answer")(b"\xff\xff", timeout=TIMEOUT_S)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == "the bytes of the request are no message of qzoom.v1"
