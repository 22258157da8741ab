"""The gRPC edge: reflection, uploads, cancellation, and what has no counterpart in REST."""

import asyncio
import time

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from gateway.rpc.context import require_local
from gateway.rpc.upload import read_upload
from qzoom.contracts.request import Limits
from qzoom.errors import Forbidden, InvalidRequest
from qzoom.pb import qzoom_pb2 as pb
from qzoom.pb import qzoom_pb2_grpc

TIMEOUT_S = 30
POLL_S = 0.02


@pytest.fixture(scope="module")
def channel(edge_server):
    with grpc.insecure_channel(edge_server.grpc_address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return qzoom_pb2_grpc.QZoomStub(channel)


def question(text="what is this?", image=None, **fields) -> pb.AnswerRequest:
    parts = [pb.Part(text=text)]
    if image is not None:
        parts.insert(0, pb.Part(image_url=pb.ImageUrl(data=image)))
    messages = [pb.Message(role=pb.ROLE_USER, content=parts)]
    return pb.AnswerRequest(model="echo", messages=messages, **fields)


def chunks(data: bytes, image=0, size=100):
    for start in range(0, len(data), size):
        chunk = pb.ImageChunk(image=image, data=data[start : start + size])
        yield pb.UploadRequest(chunk=chunk)


def details(call) -> str:
    with pytest.raises(grpc.RpcError) as error:
        call()
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return error.value.details()


def test_a_client_made_from_reflection_gets_an_answer(channel, picture):
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    service = pool.FindServiceByName("qzoom.v1.QZoom")
    assert {method.name for method in service.methods} == {
        "Answer",
        "AnswerStream",
        "UploadAndAnswer",
    }
    method = service.FindMethodByName("Answer")
    request = message_factory.GetMessageClass(method.input_type)
    reply = message_factory.GetMessageClass(method.output_type)
    call = channel.unary_unary(
        "/qzoom.v1.QZoom/Answer",
        request_serializer=request.SerializeToString,
        response_deserializer=reply.FromString,
    )
    wire = question(image=picture).SerializeToString()
    assert call(request.FromString(wire), timeout=TIMEOUT_S).text == "what is this? [64x48]"


def test_pictures_arrive_in_pieces(stub, picture):
    parts = [*chunks(picture), *chunks(picture, image=1), pb.UploadRequest(question=question())]
    answer = stub.UploadAndAnswer(iter(parts), timeout=TIMEOUT_S)
    assert answer.text == "what is this? [64x48, 64x48]"


def test_uploads_can_be_placed(stub, picture, edge_server):
    asked = question("first")
    asked.messages[0].content.add(image_url=pb.ImageUrl(upload=0))
    asked.messages[0].content.add(text="second")
    stub.UploadAndAnswer(
        iter([*chunks(picture), pb.UploadRequest(question=asked)]), timeout=TIMEOUT_S
    )
    parts = edge_server.flow.requests[-1].conversation[0].parts
    assert [type(part).__name__ for part in parts] == ["Text", "Picture", "Text"]
    asked.messages[0].content.add(image_url=pb.ImageUrl(upload=5))
    parts = [*chunks(picture), pb.UploadRequest(question=asked)]
    assert details(lambda: stub.UploadAndAnswer(iter(parts), timeout=TIMEOUT_S)) == (
        "messages[0].content[3].image_url.upload is 5, but 1 were uploaded"
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "the upload ended without a question"),
        ([pb.UploadRequest()], "an upload message has neither chunk nor question"),
        (
            [pb.UploadRequest(chunk=pb.ImageChunk(image=3, data=b"x"))],
            "a piece belongs to picture 3, expected 0",
        ),
        (
            [pb.UploadRequest(chunk=pb.ImageChunk(image=0))],
            "a piece of a picture has 0 bytes, at least 1",
        ),
        (
            [pb.UploadRequest(chunk=pb.ImageChunk(image=16, data=b"x"))],
            "the upload has more than 16 pictures",
        ),
        (
            [pb.UploadRequest(question=question())] * 2,
            "the upload goes on after the question",
        ),
        (
            [pb.UploadRequest(question=question())],
            "the messages have 0 pictures, at least 1 is needed",
        ),
        (
            [*chunks(b"x" * 10_100, size=1)],
            "the upload has more than 10000 pieces",
        ),
        (
            [*chunks(b"x" * (21 << 20), size=1 << 20)],
            "picture 0 of the upload has more than 20971520 bytes",
        ),
        (
            [m for i in range(4) for m in chunks(b"x" * (9 << 20), image=i, size=1 << 20)],
            "the upload has more than 33554432 bytes",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_bad_uploads_are_refused(stub, parts, message):
    assert details(lambda: stub.UploadAndAnswer(iter(parts), timeout=TIMEOUT_S)) == message


async def test_a_slow_upload_ends():
    async def slowly():
        yield pb.UploadRequest(chunk=pb.ImageChunk(image=0, data=b"x"))
        await asyncio.sleep(3600)

    with pytest.raises(InvalidRequest, match=r"did not arrive within 0\.1 s"):
        await read_upload(slowly(), Limits(max_body_s=0.1))


def test_unset_and_unknown_fields_are_refused(stub, picture):
    assert details(lambda: stub.Answer(pb.AnswerRequest(), timeout=TIMEOUT_S)) == (
        "model is required"
    )
    asked = question(image=picture)
    asked.messages[0].role = pb.ROLE_UNSPECIFIED
    assert details(lambda: stub.Answer(asked, timeout=TIMEOUT_S)) == "messages[0].role is required"
    asked.messages[0].role = 9
    assert details(lambda: stub.Answer(asked, timeout=TIMEOUT_S)) == (
        "messages[0].role is 9, must be 'system', 'developer', 'user' or 'assistant'"
    )
    asked.messages[0].role = pb.ROLE_USER
    asked.messages[0].content.add()
    assert details(lambda: stub.Answer(asked, timeout=TIMEOUT_S)) == (
        "messages[0].content[2].type is required"
    )
    asked = question(image=picture, qzoom=pb.Options.FromString(b"\x98\x06\x01"))
    assert details(lambda: stub.Answer(asked, timeout=TIMEOUT_S)) == (
        "qzoom has the unknown field number 99"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused(stub, picture, value):
    asked = question(image=picture, temperature=value)
    assert details(lambda: stub.Answer(asked, timeout=TIMEOUT_S)) == (
        f"temperature is {value}, must be a finite number"
    )


def test_the_message_limit_is_grpcs_own(stub):
    with pytest.raises(grpc.RpcError) as error:
        stub.Answer(question(image=b"x" * (33 << 20)), timeout=TIMEOUT_S)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_defect_shows_the_request_and_nothing_else(stub, picture):
    with pytest.raises(grpc.RpcError) as error:
        stub.Answer(
            question("bug", picture), timeout=TIMEOUT_S, metadata=[("request_id", "my-request")]
        )
    assert error.value.code() is grpc.StatusCode.INTERNAL
    assert error.value.details() == "internal error, please report request my-request"


def test_an_unfit_request_id_is_refused(stub, picture):
    metadata = [("request_id", "x" * 200)]
    message = details(
        lambda: stub.Answer(question(image=picture), timeout=TIMEOUT_S, metadata=metadata)
    )
    assert message.startswith("x-request-id is ")


@pytest.mark.parametrize("method", ["Answer", "AnswerStream"])
def test_cancelling_ends_the_flow(stub, picture, edge_server, method):
    asked = question("hang here", picture)
    if method == "Answer":
        call = stub.Answer.future(asked, timeout=TIMEOUT_S)
    else:
        call = stub.AnswerStream(asked, timeout=TIMEOUT_S)
        assert next(call).WhichOneof("event") == "started"
    wait_until(lambda: edge_server.flow.live == 1)
    call.cancel()
    wait_until(lambda: edge_server.flow.live == 0)


def test_the_deadline_ends_the_flow(stub, picture, edge_server):
    asked = question("hang here", picture, qzoom=pb.Options(deadline_ms=200))
    with pytest.raises(grpc.RpcError) as error:
        stub.Answer(asked, timeout=TIMEOUT_S)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert edge_server.flow.live == 0


class Peer:
    def __init__(self, address: str) -> None:
        self._address = address

    def peer(self) -> str:
        return self._address


@pytest.mark.parametrize("address", ["ipv4:127.0.0.1:5", "ipv6:%5B::1%5D:5", "unix:/tmp/s"])
def test_local_clients_are_let_in(address):
    require_local(Peer(address))


@pytest.mark.parametrize(
    "address", ["ipv4:10.0.0.5:5", "ipv6:%5B2001:db8::1%5D:5", "ipv6:%5B::ffff:10.0.0.5%5D:5", "?"]
)
def test_clients_of_other_machines_can_be_refused(address):
    with pytest.raises(Forbidden):
        require_local(Peer(address))


def wait_until(condition) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff\xff", b"\x0a\x03\xff\xfe\xfd"])
def test_bytes_that_are_no_message_are_the_clients_mistake(channel, data):
    call = channel.unary_unary("/qzoom.v1.QZoom/Answer")
    assert details(lambda: call(data)) == "the bytes of the request are no message of qzoom.v1"
    stream = channel.unary_stream("/qzoom.v1.QZoom/AnswerStream")
    assert "no message" in details(lambda: list(stream(data)))
