"""Which part of a request's state is needed here? What is known already is not opened."""

from dataclasses import dataclass

from qzoom.contracts.keys import next_key
from qzoom.contracts.stages import Resume
from qzoom.model.decoder import Roi
from qzoom.model.handoff import unpack_state, unpack_visual
from qzoom.model.positions import ZoomTail
from qzoom.model.state import PrefillState
from qzoom.serving.references import Reader


@dataclass(frozen=True, slots=True)
class SharedBlocks:
    """The beginning of a sequence that later requests may share.

    Attributes:
        keys: Names each block, and all that comes before it, by its content.
        ends: Tokens up to the end of each block.
        num_tokens: Length of the whole sequence.
    """

    keys: tuple[bytes, ...]
    ends: tuple[int, ...]
    num_tokens: int


@dataclass(frozen=True, slots=True)
class OpenedState:
    """What the prefill resumes from."""

    state: PrefillState
    roi: Roi | None


def shared_blocks(request: Resume, tail: ZoomTail | None) -> SharedBlocks:
    """Name the blocks of a sequence: the coarse pictures, then the RoI behind the chosen one.

    Args:
        request: The coarse prompt with its keys, and the RoI.
        tail: What follows the chosen picture on the zoom route.
    """
    reply = request.prefilled
    keys, ends, num_tokens = reply.keys, reply.prompt.block_ends, len(reply.prompt.ids)
    if tail is not None and request.roi is not None:
        num_tokens = tail.kept + len(tail.ids)
        num_kept = ends.index(tail.kept) + 1
        start, count = tail.visual[0]
        last = start + count
        roi = next_key(
            keys[num_kept - 1], tail.ids[:last], tail.positions[:, :last], request.roi.key
        )
        keys, ends = (*keys[:num_kept], roi), (*ends[:num_kept], tail.kept + last)
    # Something must be left behind what is shared.
    num_usable = sum(end < num_tokens for end in ends)
    return SharedBlocks(keys[:num_usable], ends[:num_usable], num_tokens)


async def open_state(request: Resume, num_found: int, read: Reader) -> OpenedState:
    """Open what the prefill needs behind the blocks that were found.

    Args:
        request: The coarse prompt, and the RoI.
        num_found: Blocks of `shared_blocks` that are known.
        read: See `LlmService.answer`.

    Raises:
        QZoomError: If the state cannot be read, or not in time.
    """
    reply, num_blocks = request.prefilled, len(request.prefilled.blocks)
    is_zoom = request.proposal is not None and request.roi is not None
    encodings = (request.roi, *request.later_images) if request.roi is not None else ()
    if is_zoom:
        num_kept = reply.prompt.block_ends.index(_kept_end(request)) + 1
        has_roi = num_found > num_kept
        places = [*range(num_found, num_kept)]
        places += range(num_blocks + 1 + has_roi, num_blocks + 1 + len(encodings))
    else:
        places = [*range(num_found, num_blocks + 1)]
    opened = dict(zip(places, await read(places), strict=True))
    state = unpack_state(
        reply.prompt,
        [(header, opened.get(place)) for place, header in enumerate(reply.blocks)],
        (reply.suffix, opened.get(num_blocks)),
    )
    if request.proposal is None or request.roi is None:
        return OpenedState(state, None)
    visuals = [
        unpack_visual(encoded.grid, encoded.visual, opened[place]) if place in opened else None
        for place, encoded in enumerate(encodings, num_blocks + 1)
    ]
    later = tuple(visual for visual in visuals[1:] if visual is not None)
    return OpenedState(state, Roi(request.proposal, request.roi.grid, visuals[0], later))


def _kept_end(request: Resume) -> int:
    """Where the chosen picture ends."""
    assert request.proposal is not None
    prompt = request.prefilled.prompt
    ends = zip(prompt.spans, prompt.block_ends, strict=True)
    return next(end for span, end in ends if span.image == request.proposal.image)
