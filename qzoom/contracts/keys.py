"""What is the same computation? Names for encodings and states, by all that they depend on.

A key is a SHA-256 over a fingerprint of the model that computes, the tenant's salt and the content:
two requests that differ in one pixel, one token before the end of a picture, one position or the
tenant have different keys, so that they never share state.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from qzoom.contracts.stages import Prompt, Proposal
from qzoom.contracts.tenancy import cache_salt


def fingerprint(*parts: str) -> bytes:
    """Name a model as one stage runs it: revision, behaviour, element type."""
    return _digest(b"model", (part.encode() for part in parts))


def picture_key(model: bytes, tenant: str, digest: str, max_tokens: int | None) -> bytes:
    """Name the coarse visual tokens of a picture.

    Args:
        model: `fingerprint` of the encoder's model.
        tenant: Who asks.
        digest: SHA-256 of the decoded pixels.
        max_tokens: The budget that was asked for; None is the model's default.
    """
    return _digest(b"coarse", (model, cache_salt(tenant), digest.encode(), _text(max_tokens)))


def crop_key(
    model: bytes, tenant: str, digest: str, proposal: Proposal, max_tokens: int | None
) -> bytes:
    """Name the visual tokens of a region; its box is whole cells of the coarse grid.

    Args:
        model: `fingerprint` of the encoder's model.
        tenant: Who asks.
        digest: SHA-256 of the decoded pixels of the whole picture.
        proposal: The region; only its box and its kept tokens count.
        max_tokens: The budget that was asked for; None is the model's default.
    """
    kept = proposal.kept
    where = _numbers(proposal.box_px), b"all" if kept is None else _numbers(kept)
    content = (model, cache_salt(tenant), digest.encode(), *where, _text(max_tokens))
    return _digest(b"roi", content)


def block_keys(
    model: bytes, tenant: str, prompt: Prompt, pictures: Sequence[bytes]
) -> tuple[bytes, ...]:
    """Name the state at the end of each picture of a prompt: a chain, block upon block.

    Args:
        model: `fingerprint` of the gate's model.
        tenant: Who asks.
        prompt: The coarse prompt.
        pictures: Key of each picture's encoding, in the order of the request.

    Returns:
        keys: In the order of the sequence.
    """
    keys, start = [], 0
    key = _digest(b"prompt", (model, cache_salt(tenant)))
    for span, end in zip(prompt.spans, prompt.block_ends, strict=True):
        grid = _numbers((span.start, *span.grid))
        key = next_key(key, prompt.ids[start:end], prompt.positions[:, start:end])
        key = _digest(b"picture", (key, pictures[span.image], grid))
        keys.append(key)
        start = end
    return tuple(keys)


def next_key(
    before: bytes, ids: NDArray[np.int32], positions: NDArray[np.float32], picture: bytes = b""
) -> bytes:
    """Name the state behind some more tokens.

    Args:
        before: Key of all that comes before.
        ids: Token ids, [T].
        positions: Their positions, [3, T].
        picture: Key of the encoding whose visual tokens stand among them.
    """
    tokens = np.ascontiguousarray(ids, "<i4").tobytes()
    places = np.ascontiguousarray(positions, "<f4").tobytes()
    return _digest(b"tokens", (before, tokens, places, picture))


def _text(number: int | None) -> bytes:
    return str(number).encode()


def _numbers(numbers: Iterable[int]) -> bytes:
    return ",".join(map(str, numbers)).encode()


def _digest(domain: bytes, parts: Iterable[bytes]) -> bytes:
    """Hash parts with their lengths, so that no two lists of parts read the same."""
    state = hashlib.sha256(domain + b"\0")
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()
