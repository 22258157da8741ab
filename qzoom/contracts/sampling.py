"""How are tokens drawn? The parameters of decoding, checked where they enter the system."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sampling:
    """Parameters of decoding for one request.

    Attributes:
        max_tokens: Most tokens to generate, at least 1.
        temperature: 0 takes the likeliest token; else logits are divided by it, at most 2.
        top_p: Probability mass of the nucleus, in (0, 1].
        seed: Seed of the request's own generator; None draws one.
        stop: Texts that end the answer; they are not part of it.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
