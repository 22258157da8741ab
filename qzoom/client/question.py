"""A question as both protocols send it: one meaning, two encodings."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypedDict, Unpack

from qzoom.client.pictures import Picture, PictureSource, read_picture
from qzoom.contracts.options import Options, Route
from qzoom.errors import InvalidRequest
from qzoom.pb import qzoom_pb2 as pb

Json = dict[str, Any]
Role = Literal["system", "user", "assistant"]
_ROUTES = {"auto": pb.ROUTE_AUTO, "direct": pb.ROUTE_DIRECT, "zoom": pb.ROUTE_ZOOM}
_ROLES = {"system": pb.ROLE_SYSTEM, "user": pb.ROLE_USER, "assistant": pb.ROLE_ASSISTANT}
_SAMPLING = ("max_tokens", "temperature", "top_p", "seed")

__all__ = ["Chosen", "Options", "Question", "Route", "build_question"]


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask.

    Attributes:
        turns: The conversation: (role, parts), each part a text or a picture.
        options: Choices about the method.
        max_tokens: Most tokens of the answer; None takes the server's default.
        temperature: 0 to 2; None takes the likeliest token.
        top_p: Nucleus, above 0 to 1.
        seed: Of the request's own generator.
        stop: Texts that end the answer.
        idempotency_key: Names the question, so that it is answered once however often it is sent;
            then it is asked again after a broken connection too. For answers read as a whole.
    """

    turns: tuple[tuple[Role, tuple[str | Picture, ...]], ...]
    options: Options = field(default_factory=Options)
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    idempotency_key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What is sent beside the body: HTTP headers or gRPC metadata."""
        key = self.idempotency_key
        return {} if key is None else {"idempotency-key": key}

    def settled(self, deadline_ms: int) -> "Question":
        """Fix the deadline, so that every try has the same content."""
        if self.options.deadline_ms is not None:
            return self
        return replace(self, options=replace(self.options, deadline_ms=deadline_ms))

    def to_json(self, model: str, *, stream: bool) -> Json:
        """Build the body of POST /v1/chat/completions."""
        messages = [
            {"role": role, "content": [_json_part(part) for part in parts]}
            for role, parts in self.turns
        ]
        body: Json = {"model": model, "messages": messages, "stream": stream}
        body |= {name: value for name in _SAMPLING if (value := getattr(self, name)) is not None}
        if self.stop:
            body["stop"] = list(self.stop)
        if stream:
            body["stream_options"] = {"include_usage": True}
        return body | {"qzoom": self._chosen()}

    def to_proto(self, model: str) -> pb.AnswerRequest:
        """Build the message of `Answer` and `AnswerStream`."""
        chosen = self._chosen()
        route = chosen.pop("route")
        return pb.AnswerRequest(
            model=model,
            messages=[
                pb.Message(role=_ROLES[role], content=[_proto_part(part) for part in parts])
                for role, parts in self.turns
            ],
            stop=self.stop,
            qzoom=pb.Options(route=_ROUTES[route], **chosen),
            **{name: value for name in _SAMPLING if (value := getattr(self, name)) is not None},
        )

    def _chosen(self) -> Json:
        """Give the options that differ from the defaults, the route in any case."""
        chosen = {item.name: getattr(self.options, item.name) for item in fields(self.options)}
        return {name: value for name, value in chosen.items() if value is not None}


class Chosen(TypedDict, total=False):
    """What may be chosen for one question: the fields of `Options`, and those of `Question`."""

    route: Route
    tau_gate: float | None
    tau_roi: float | None
    max_visual_tokens: int | None
    max_roi_tokens: int | None
    deadline_ms: int | None
    explain: bool
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    stop: str | Sequence[str]
    idempotency_key: str | None


def build_question(
    picture: "PictureSource | Sequence[PictureSource]",
    question: str,
    *,
    system: str | None = None,
    history: Sequence[tuple[str, str]] = (),
    **chosen: Unpack[Chosen],
) -> Question:
    """Put a question together.

    Args:
        picture: One picture, or several in their order.
        question: What to ask.
        system: Instructions before everything else.
        history: Earlier (question, answer) pairs about the same pictures.
        **chosen: Fields of `Options` (`route`, `tau_gate`, ...) and of `Question` (`seed`, ...).

    Raises:
        InvalidRequest: If a name is not known, or a file cannot be read.
    """
    given: Json = {**chosen}
    unknown = sorted(given.keys() - Chosen.__annotations__.keys())
    if unknown:
        known = ", ".join(sorted(Chosen.__annotations__))
        raise InvalidRequest(f"{unknown[0]} is no option; known are {known}", param=unknown[0])
    method = {item.name for item in fields(Options)}
    options = Options(**{name: value for name, value in given.items() if name in method})
    if options.route not in _ROUTES:
        raise InvalidRequest(
            f"route is {options.route!r}, must be auto, direct or zoom", param="route"
        )
    several = (
        picture
        if isinstance(picture, Sequence) and not isinstance(picture, str | bytes)
        else (picture,)
    )
    pictures = tuple(read_picture(one) for one in several)
    asked = [*(text for text, _ in history), question]
    turns: list[tuple[Role, tuple[str | Picture, ...]]] = []
    if system is not None:
        turns.append(("system", (system,)))
    for i, text in enumerate(asked):
        turns.append(("user", (*pictures, text) if i == 0 else (text,)))
        if i < len(history):
            turns.append(("assistant", (history[i][1],)))
    stop = chosen.get("stop", ())
    return Question(
        turns=tuple(turns),
        options=options,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        idempotency_key=chosen.get("idempotency_key"),
        **{name: given[name] for name in _SAMPLING if name in given},
    )


def _json_part(part: str | Picture) -> Json:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    url = part.url
    if not url:
        url = f"data:{part.media_type};base64,{base64.b64encode(part.data).decode('ascii')}"
    return {"type": "image_url", "image_url": {"url": url}}


def _proto_part(part: str | Picture) -> pb.Part:
    if isinstance(part, str):
        return pb.Part(text=part)
    if part.url:
        return pb.Part(image_url=pb.ImageUrl(url=part.url))
    return pb.Part(image_url=pb.ImageUrl(data=part.data))
