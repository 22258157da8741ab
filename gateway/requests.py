"""From a checked body to an `AnswerRequest`: the limits, and the rules between fields.

Both edges call `read_body` and `build_request`. Types and fixed ranges are `RequestBody`'s; here is
what needs the operator's limits or more than one field.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from gateway.wording import explain_violation
from qzoom.contracts.conversation import Conversation, Picture, Role, Text, Turn
from qzoom.contracts.options import Options, Route
from qzoom.contracts.request import (
    AnswerRequest,
    Envelope,
    ImageUrl,
    Limits,
    Message,
    MethodOptions,
    RequestBody,
)
from qzoom.contracts.sampling import Sampling
from qzoom.contracts.tenancy import DEFAULT_TENANT
from qzoom.errors import InvalidRequest, NotFound, TooLarge

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of a request beside its body.

    Attributes:
        request_id: Names the request.
        received: Unix time in seconds of its first byte.
        trace: W3C trace context headers of the client.
        tenant: Who asks.
        idempotency_key: Same key, same answer; None answers anew.
        envelope: What goes back beside the answer.
    """

    request_id: str
    received: float
    trace: Mapping[str, str]
    tenant: str = DEFAULT_TENANT
    idempotency_key: str | None = None
    envelope: Envelope = field(default_factory=Envelope, compare=False)


def check_request_id(named: str) -> None:
    """Check a request id of the client's.

    Raises:
        InvalidRequest: If it is not fit for logs and headers.
    """
    if not _REQUEST_ID.fullmatch(named):
        raise InvalidRequest(
            f"x-request-id is {named[:80]!a}, must be 1 to 128 letters, digits, dots, dashes or "
            "underscores",
            param="x-request-id",
        )


def read_body(fields: Mapping[str, Any]) -> RequestBody:
    """Check types, names and fixed ranges.

    Args:
        fields: The body as plain data; a picture's `url` may be bytes.

    Raises:
        InvalidRequest: If a field is missing, unknown, of the wrong type or out of range.
        UnsupportedMedia: If a data: URL holds no image.
    """
    try:
        return RequestBody.model_validate(fields)
    except ValidationError as error:
        raise explain_violation(error) from None


def build_request(
    body: RequestBody, arrival: Arrival, limits: Limits, models: Sequence[str]
) -> AnswerRequest:
    """Check the operator's limits and the rules between fields.

    Args:
        body: What the client sent.
        arrival: When, and under which name.
        limits: What one request may ask for.
        models: Names of the models that are served.

    Raises:
        InvalidRequest: If a value passes its limit, or fields do not fit together.
        NotFound: If the model is not served.
        TooLarge: If there are too many turns, pictures, characters or bytes.
    """
    if body.model not in models:
        raise NotFound(
            f"model {body.model[:80]!r} is not served here, available: {', '.join(models)}",
            param="model",
        )
    _check_messages(body.messages, limits)
    conversation, pictures = _conversation(body.messages)
    _check_pictures(pictures, limits)
    method = body.qzoom or MethodOptions()
    _check_budgets(method, limits)
    deadline_ms = method.deadline_ms or limits.default_deadline_ms
    return AnswerRequest(
        request_id=arrival.request_id,
        model=body.model,
        conversation=conversation,
        images=tuple(image.url for _, image in pictures),
        image_params=tuple(param for param, _ in pictures),
        sampling=_sampling(body, limits),
        options=_options(method, [image.detail for _, image in pictures]),
        stream=bool(body.stream),
        deadline=arrival.received + deadline_ms / 1000,
        trace=arrival.trace,
        tenant=arrival.tenant,
        idempotency_key=arrival.idempotency_key,
        envelope=arrival.envelope,
    )


def _check_messages(messages: Sequence[Message], limits: Limits) -> None:
    if len(messages) > limits.max_messages:
        raise TooLarge(
            f"messages has {len(messages)} items, at most {limits.max_messages}", param="messages"
        )
    for i, message in enumerate(messages):
        role = message.role
        if role in {"system", "developer"} and i > 0:
            raise InvalidRequest(
                f"messages[{i}].role is {role}, which is allowed in the first message only",
                param=f"messages[{i}].role",
            )
    if messages[-1].role != "user":
        last = len(messages) - 1
        raise InvalidRequest(
            f"messages[{last}].role is {messages[-1].role}, the last message must be the user's",
            param=f"messages[{last}].role",
        )
    num_chars = sum(len(text) for message in messages for text in _texts(message))
    if num_chars > limits.max_prompt_chars:
        raise TooLarge(
            f"the text of all messages has {num_chars} characters, "
            f"at most {limits.max_prompt_chars}",
            param="messages",
        )
    if not any(text.strip() for text in _texts(messages[-1])):
        raise InvalidRequest("the last message asks nothing: it has no text", param="messages")


def _texts(message: Message) -> Iterator[str]:
    return (part.text for part in message.content if part.text is not None)


def _conversation(
    messages: Sequence[Message],
) -> tuple[Conversation, list[tuple[str, ImageUrl]]]:
    """Number the pictures in the order of the conversation; returns them with their fields."""
    pictures: list[tuple[str, ImageUrl]] = []
    turns = []
    for i, message in enumerate(messages):
        role: Role = "system" if message.role == "developer" else message.role
        parts: list[Text | Picture] = []
        for j, part in enumerate(message.content):
            param = f"messages[{i}].content[{j}]"
            if part.image_url is None:
                parts.append(Text(part.text or ""))
            elif role != "user":
                raise InvalidRequest(
                    f"{param} is a picture in a {message.role} message, "
                    "pictures belong in user messages",
                    param=param,
                )
            else:
                parts.append(Picture(len(pictures)))
                pictures.append((f"{param}.image_url", part.image_url))
        turns.append(Turn(role, tuple(parts)))
    return tuple(turns), pictures


def _check_pictures(pictures: Sequence[tuple[str, ImageUrl]], limits: Limits) -> None:
    if not pictures:
        raise InvalidRequest("the messages have 0 pictures, at least 1 is needed", param="messages")
    if len(pictures) > limits.max_images:
        raise TooLarge(
            f"the messages have {len(pictures)} pictures, at most {limits.max_images}",
            param="messages",
        )
    for param, image in pictures:
        if isinstance(image.url, bytes) and len(image.url) > limits.max_image_bytes:
            raise TooLarge(
                f"{param} has {len(image.url)} bytes, at most {limits.max_image_bytes}",
                param=param,
            )


def _check_budgets(method: MethodOptions, limits: Limits) -> None:
    for name, value, limit in (
        ("max_visual_tokens", method.max_visual_tokens, limits.max_visual_tokens),
        ("max_roi_tokens", method.max_roi_tokens, limits.max_visual_tokens),
        ("deadline_ms", method.deadline_ms, limits.max_deadline_ms),
    ):
        if value is not None and value > limit:
            raise InvalidRequest(f"qzoom.{name} is {value}, at most {limit}", param=f"qzoom.{name}")


def _sampling(body: RequestBody, limits: Limits) -> Sampling:
    if None not in (body.max_tokens, body.max_completion_tokens):
        raise InvalidRequest(
            "max_tokens and max_completion_tokens are both given, which mean the same: send one",
            param="max_tokens",
        )
    name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    max_tokens = body.max_tokens or body.max_completion_tokens or limits.default_max_tokens
    if max_tokens > limits.max_tokens:
        raise InvalidRequest(f"{name} is {max_tokens}, at most {limits.max_tokens}", param=name)
    defaults = Sampling()
    return Sampling(
        max_tokens=max_tokens,
        temperature=defaults.temperature if body.temperature is None else body.temperature,
        top_p=defaults.top_p if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=tuple(body.stop or ()),
    )


def _options(method: MethodOptions, details: Sequence[str]) -> Options:
    """Combine the `qzoom` object with the pictures' `detail`; an explicit route wins.

    `high` on any picture asks to look closer, `low` on all of them asks not to.
    """
    route: Route = method.route
    if "route" not in method.model_fields_set:
        if "high" in details:
            route = "zoom"
        elif set(details) == {"low"}:
            route = "direct"
    return Options(
        route=route,
        tau_gate=method.tau_gate,
        tau_roi=method.tau_roi,
        max_visual_tokens=method.max_visual_tokens,
        max_roi_tokens=method.max_roi_tokens,
        deadline_ms=method.deadline_ms,
        explain=method.explain,
    )
