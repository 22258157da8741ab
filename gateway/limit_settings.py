"""Which limits may an operator choose? Those of a request and of its pictures."""

from dataclasses import fields
from typing import Self

from pydantic import Field, model_validator

from gateway.images.limits import MIB, ImageLimits
from qzoom.contracts.request import Limits
from qzoom.settings import ServiceSettings

_REQUEST = Limits()
_IMAGE = ImageLimits()


class LimitSettings(ServiceSettings):
    """The fields of `Limits` and of `ImageLimits`, whose defaults they have."""

    max_body_bytes: int = Field(_REQUEST.max_body_bytes, ge=1024, le=1024 * MIB)
    """Whole HTTP body, or whole gRPC upload; also the remote pictures of a request together."""

    max_body_s: float = Field(_REQUEST.max_body_s, gt=0, le=3600)
    """Seconds that such a body may take to arrive."""

    max_image_bytes: int = Field(_REQUEST.max_image_bytes, ge=1024, le=1024 * MIB)
    """One encoded picture."""

    max_images: int = Field(_REQUEST.max_images, ge=1, le=256)
    """Pictures in the conversation."""

    max_messages: int = Field(_REQUEST.max_messages, ge=1, le=10_000)
    """Turns of the conversation."""

    max_prompt_chars: int = Field(_REQUEST.max_prompt_chars, ge=1, le=10_000_000)
    """Text of all turns together."""

    max_tokens: int = Field(_REQUEST.max_tokens, ge=1, le=1_000_000)
    """Tokens of the answer."""

    default_max_tokens: int = Field(_REQUEST.default_max_tokens, ge=1)
    """Tokens of the answer where the request does not say; at most `max_tokens`."""

    max_visual_tokens: int = Field(_REQUEST.max_visual_tokens, ge=4, le=1_000_000)
    """Largest budget of a coarse picture or of an RoI crop."""

    max_deadline_ms: int = Field(_REQUEST.max_deadline_ms, ge=1, le=86_400_000)
    """Longest deadline that may be asked for."""

    default_deadline_ms: int = Field(_REQUEST.default_deadline_ms, ge=1)
    """Deadline where the request does not say; at most `max_deadline_ms`."""

    max_pixels: int = Field(_IMAGE.max_pixels, ge=1, le=1_000_000_000)
    """Width times height of one picture; `decode_memory_bytes` must fit it: 20 bytes a pixel."""

    max_request_pixels: int = Field(_IMAGE.max_request_pixels, ge=1, le=16_000_000_000)
    """The same, summed over the pictures of a request."""

    max_side_px: int = Field(_IMAGE.max_side_px, ge=1, le=65_535)
    """Longest side of a picture."""

    max_aspect_ratio: float = Field(_IMAGE.max_aspect_ratio, ge=1, le=65_535)
    """Longer side of a picture over its shorter side."""

    decode_cpu_s: float = Field(_IMAGE.decode_cpu_s, gt=0, le=600)
    """Longest time that a core may compute on one picture."""

    decode_timeout_s: float = Field(_IMAGE.decode_timeout_s, gt=0, le=600)
    """Longest time that the decoding of one picture may take, on a busy machine."""

    decode_memory_bytes: int = Field(_IMAGE.decode_memory_bytes, ge=64 * MIB)
    """Most memory that the decoding of one picture may take."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        for smaller, larger in (
            ("default_max_tokens", "max_tokens"),
            ("default_deadline_ms", "max_deadline_ms"),
            ("max_image_bytes", "max_body_bytes"),
            ("max_pixels", "max_request_pixels"),
            ("decode_cpu_s", "decode_timeout_s"),
        ):
            if getattr(self, smaller) > getattr(self, larger):
                raise ValueError(
                    f"{smaller} is {getattr(self, smaller)}, "
                    f"above {larger}, which is {getattr(self, larger)}"
                )
        return self

    def request_limits(self) -> Limits:
        """What one request may ask for."""
        return Limits(**{field.name: getattr(self, field.name) for field in fields(Limits)})

    def image_limits(self) -> ImageLimits:
        """What a picture may be, and what its decoding may cost."""
        return ImageLimits(
            **{field.name: getattr(self, field.name) for field in fields(ImageLimits)}
        )
