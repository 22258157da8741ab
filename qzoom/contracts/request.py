"""What may a request contain? The one definition behind REST and gRPC.

`RequestBody` has the shape of an OpenAI chat completion. The REST edge validates its JSON against
it; the gRPC edge builds the same mapping from its messages, pictures as bytes. Both then call
`build_request`, so a request means the same, and fails with the same words, on both.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from qzoom.contracts.conversation import Conversation
from qzoom.contracts.options import Options, Route
from qzoom.contracts.sampling import Sampling
from qzoom.contracts.tenancy import DEFAULT_TENANT

MIB = 1024 * 1024
INT64_MAX = 2**63 - 1
MAX_URL_CHARS = 4096
MAX_STOP_TEXTS = 4
MAX_STOP_CHARS = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for; the operator's to choose.

    Attributes:
        max_body_bytes: Whole HTTP body, or whole gRPC upload.
        max_body_s: Seconds that such a body may take to arrive.
        max_image_bytes: One encoded picture.
        max_images: Pictures in the conversation.
        max_messages: Turns of the conversation.
        max_prompt_chars: Text of all turns together.
        max_tokens: Tokens of the answer.
        default_max_tokens: Tokens of the answer where the request does not say.
        max_visual_tokens: Largest budget of a coarse picture or of an RoI crop.
        max_deadline_ms: Longest deadline that may be asked for.
        default_deadline_ms: Deadline where the request does not say.
    """

    max_body_bytes: int = 32 * MIB
    max_body_s: float = 60.0
    max_image_bytes: int = 20 * MIB
    max_images: int = 16
    max_messages: int = 64
    max_prompt_chars: int = 32_768
    max_tokens: int = 4096
    default_max_tokens: int = 256
    max_visual_tokens: int = 16_384
    max_deadline_ms: int = 600_000
    default_deadline_ms: int = 120_000


@dataclass(slots=True)
class Envelope:
    """What goes back beside the answer; filled while the request is worked on.

    Attributes:
        headers: HTTP headers, or gRPC's trailing metadata, of the answer or the error.
        request_id: Name of the request whose answer it is; an earlier one's for a replay.
        received: Unix time in seconds at which that one came.
    """

    headers: dict[str, str] = field(default_factory=dict)
    request_id: str = ""
    received: float = 0.0


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """A picture that lies elsewhere; the gateway fetches it, if the operator allows that.

    Attributes:
        url: As the client sent it, http or https; neither parsed nor trusted yet.
    """

    url: str


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """A request that kept all rules, ready for the flow.

    Attributes:
        request_id: Names the request in logs, traces, errors and the answer.
        model: Name of the model, one that is served.
        conversation: All turns; a `Picture` refers to `images`.
        images: Encoded files (JPEG, PNG, ...) in the order of the conversation; remote ones become
            files when they are fetched.
        image_params: For each picture the field that it came from, for error messages.
        sampling: How to draw tokens.
        options: Choices about the method.
        stream: Whether the client reads token by token.
        deadline: Unix time in seconds after which nobody waits for the answer.
        trace: W3C trace context headers that the client sent.
        tenant: Who asks; its limits apply, and no other tenant sees its state.
        idempotency_key: Same key, same answer; None answers anew.
        envelope: What goes back beside the answer.
    """

    request_id: str
    model: str
    conversation: Conversation
    images: tuple[bytes | RemoteImage, ...]
    image_params: tuple[str, ...]
    sampling: Sampling
    options: Options
    stream: bool
    deadline: float
    trace: Mapping[str, str]
    tenant: str = DEFAULT_TENANT
    idempotency_key: str | None = None
    envelope: Envelope = field(default_factory=Envelope, compare=False)

    @property
    def is_remote(self) -> bool:
        """Whether pictures must be fetched."""
        return any(isinstance(image, RemoteImage) for image in self.images)

    @property
    def files(self) -> tuple[bytes, ...]:
        """The encoded files, once all of them are here."""
        files = tuple(image for image in self.images if isinstance(image, bytes))
        assert len(files) == len(self.images), "remote pictures have not been fetched"
        return files


def _read_image_url(value: object) -> bytes | RemoteImage:
    """Turn a data: URL into the bytes of the file; bytes (from gRPC) pass unchanged."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    scheme, _, rest = value.partition(":")
    if scheme.lower() in {"http", "https"}:
        if len(value) > MAX_URL_CHARS:
            raise PydanticCustomError(
                "invalid_request",
                "the URL has {length} characters, at most {limit}",
                {"length": len(value), "limit": MAX_URL_CHARS},
            )
        return RemoteImage(value)
    if scheme.lower() != "data":
        raise PydanticCustomError(
            "invalid_request", "must be a data: URL with base64 content, or an https: URL"
        )
    header, comma, payload = rest.partition(",")
    media_type, *parameters = header.lower().split(";")
    if not comma or "base64" not in parameters:
        raise PydanticCustomError(
            "invalid_request", "the data: URL must read data:image/<type>;base64,<content>"
        )
    if not media_type.startswith("image/"):
        raise PydanticCustomError(
            "unsupported_media",
            "the data: URL has media type {media_type}, an image is needed",
            {"media_type": media_type[:40] or "none"},
        )
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise PydanticCustomError(
            "invalid_request", "the content of the data: URL is not valid base64"
        ) from None


class _Strict(BaseModel):
    """Base of the body's parts: no guessing of types, no unknown fields, no NaN."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


def _refuse_surrogates(text: str) -> str:
    """JSON can escape half a character, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("invalid_request", "is not valid Unicode text") from None
    return text


UserText = Annotated[str, AfterValidator(_refuse_surrogates)]


def _refuse_other_media(value: object) -> object:
    for medium in ("video", "audio", "file"):
        if isinstance(value, str) and medium in value:
            raise PydanticCustomError(
                "invalid_request",
                "{medium} is not supported, parts are text or image_url",
                {"medium": medium},
            )
    return value


class ImageUrl(_Strict):
    """A picture: a data: or https: URL; over gRPC also the file's bytes."""

    url: Annotated[
        bytes | RemoteImage,
        PlainValidator(_read_image_url),
        WithJsonSchema(
            {
                "type": "string",
                "description": "data:image/<type>;base64,<content>, or an https: URL where the "
                "operator allows remote pictures",
            }
        ),
    ]
    detail: Literal["auto", "low", "high"] = "auto"


class Part(_Strict):
    """One part of a turn: `text`, or `image_url` with a picture."""

    type: Annotated[Literal["text", "image_url"], BeforeValidator(_refuse_other_media)]
    text: UserText | None = None
    image_url: ImageUrl | None = None

    @model_validator(mode="after")
    def _matches_type(self) -> Self:
        if getattr(self, self.type) is None:
            raise PydanticCustomError("invalid_request", "has no {field}", {"field": self.type})
        other = "image_url" if self.type == "text" else "text"
        if getattr(self, other) is not None:
            raise PydanticCustomError(
                "invalid_request",
                "has type {type}, so it must have no {other}",
                {"type": self.type, "other": other},
            )
        return self


def _as_parts(value: object) -> object:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if not isinstance(value, list):
        raise PydanticCustomError("invalid_request", "must be a text or a list of parts")
    return value


class Message(_Strict):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Part], BeforeValidator(_as_parts), Field(min_length=1, max_length=256)]


class MethodOptions(_Strict):
    """The `qzoom` object: choices about the method, see `Options`."""

    route: Route = "auto"
    tau_gate: float | None = Field(default=None, ge=0, le=1)
    tau_roi: float | None = Field(default=None, gt=0, lt=1)
    max_visual_tokens: int | None = Field(default=None, ge=4)
    max_roi_tokens: int | None = Field(default=None, ge=4)
    deadline_ms: int | None = Field(default=None, ge=1)
    explain: bool = False


class StreamOptions(_Strict):
    """What a stream carries beside the answer."""

    include_usage: bool = False


StopText = Annotated[
    str, Field(min_length=1, max_length=MAX_STOP_CHARS), AfterValidator(_refuse_surrogates)
]

StopTexts = Annotated[list[StopText], Field(max_length=MAX_STOP_TEXTS)]


def _as_stop_list(value: object) -> object:
    if isinstance(value, str):
        return [value]
    if value is not None and not isinstance(value, list):
        raise PydanticCustomError("invalid_request", "must be a text or a list of texts")
    return value


class RequestBody(_Strict):
    """The body of a question; names and meanings are OpenAI's, `qzoom` is ours."""

    model: str
    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-INT64_MAX - 1, le=INT64_MAX)
    stop: Annotated[StopTexts | None, BeforeValidator(_as_stop_list)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    qzoom: MethodOptions | None = None
