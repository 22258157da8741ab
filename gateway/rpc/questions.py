"""From a gRPC message to the plain data that REST bodies become: the same names, pictures as bytes.

What the two have in common is checked there (`gateway.requests`), so that both fail alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.unknown_fields import UnknownFieldSet

from gateway.rpc.servicer import UNREADABLE_FIELD
from qzoom.errors import InvalidRequest
from qzoom.pb import qzoom_pb2 as pb

_OPTIONAL = ("max_tokens", "temperature", "top_p", "seed")
_METHOD_OPTIONAL = ("tau_gate", "tau_roi", "max_visual_tokens", "max_roi_tokens", "deadline_ms")


def question_fields(question: pb.AnswerRequest, uploads: Sequence[bytes] = ()) -> dict[str, Any]:
    """Build the body.

    Args:
        question: What the client sent.
        uploads: Pictures that were uploaded before it.

    Raises:
        InvalidRequest: If it has fields that we do not know, or refers to a missing upload.
    """
    _refuse_unknown(question, "")
    fields: dict[str, Any] = {
        "messages": [
            _message_fields(message, f"messages[{i}]", uploads)
            for i, message in enumerate(question.messages)
        ]
    }
    if question.model:
        fields["model"] = question.model
    fields |= {name: getattr(question, name) for name in _OPTIONAL if question.HasField(name)}
    if question.stop:
        fields["stop"] = list(question.stop)
    if question.HasField("qzoom"):
        fields["qzoom"] = _method_fields(question.qzoom)
    return fields


def place_uploads(question: pb.AnswerRequest, num_uploads: int) -> pb.AnswerRequest:
    """Put uploaded pictures before the first part of the last message, unless parts refer to them.

    Raises:
        InvalidRequest: If only some of the pictures are referred to.
    """
    used = {
        part.image_url.upload
        for message in question.messages
        for part in message.content
        if part.HasField("image_url") and part.image_url.WhichOneof("source") == "upload"
    }
    unused = set(range(num_uploads)) - used
    if not unused or not question.messages:
        return question
    if used:
        raise InvalidRequest(
            f"picture {min(unused)} of the upload is in no message", param="messages"
        )
    placed = pb.AnswerRequest()
    placed.CopyFrom(question)
    last = placed.messages[-1]
    parts = [pb.Part(image_url=pb.ImageUrl(upload=i)) for i in range(num_uploads)]
    content = [*parts, *last.content]
    del last.content[:]
    last.content.extend(content)
    return placed


def _message_fields(message: pb.Message, path: str, uploads: Sequence[bytes]) -> dict[str, Any]:
    content = [
        _part_fields(part, f"{path}.content[{j}]", uploads)
        for j, part in enumerate(message.content)
    ]
    return {"content": content} | _enum_field("role", pb.Role, message.role)


def _part_fields(part: pb.Part, path: str, uploads: Sequence[bytes]) -> dict[str, Any]:
    kind = part.WhichOneof("part")
    if kind is None:
        return {}
    if kind == "text":
        return {"type": kind, "text": part.text}
    image = _enum_field("detail", pb.Detail, part.image_url.detail)
    source = part.image_url.WhichOneof("source")
    if source == "upload":
        image["url"] = _uploaded(part.image_url.upload, f"{path}.image_url.upload", uploads)
    elif source is not None:
        image["url"] = getattr(part.image_url, source)
    return {"type": kind, "image_url": image}


def _uploaded(number: int, path: str, uploads: Sequence[bytes]) -> bytes:
    if number >= len(uploads):
        raise InvalidRequest(f"{path} is {number}, but {len(uploads)} were uploaded", param=path)
    return uploads[number]


def _method_fields(options: pb.Options) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: getattr(options, name) for name in _METHOD_OPTIONAL if options.HasField(name)
    }
    fields["explain"] = options.explain
    return fields | _enum_field("route", pb.Route, options.route)


def _enum_field(name: str, kind: Any, number: int) -> dict[str, Any]:  # noqa: ANN401
    """Give `{name: value}` with REST's word; nothing if unset, the number if we do not know it."""
    if number == 0:
        return {}
    if number not in kind.values():
        return {name: number}
    return {name: kind.Name(number).removeprefix(f"{name.upper()}_").lower()}


def _refuse_unknown(message: ProtoMessage, path: str) -> None:
    """Refuse fields of a newer contract: REST refuses unknown names too."""
    unknown = UnknownFieldSet(message)
    if len(unknown) and unknown[0].field_number == UNREADABLE_FIELD:
        raise InvalidRequest("the bytes of the request are no message of qzoom.v1")
    if len(unknown):
        where = path or "the request"
        raise InvalidRequest(
            f"{where} has the unknown field number {unknown[0].field_number}", param=path or None
        )
    for descriptor, value in message.ListFields():
        if descriptor.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        name = f"{path}.{descriptor.name}" if path else descriptor.name
        if isinstance(value, ProtoMessage):
            _refuse_unknown(value, name)
        elif not isinstance(value, Mapping):
            for i, item in enumerate(value):
                _refuse_unknown(item, f"{name}[{i}]")
