"""How is a prompt cut into image blocks, which later questions reuse, and its question?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile, zip_longest

from torch import Tensor

from qzoom.contracts.stages import Prompt
from qzoom.model.cache import PackedKV
from qzoom.model.embedding import Segment
from qzoom.model.state import PrefillState, StatePart, VisualTokens


@dataclass(frozen=True, slots=True)
class GateBlock:
    """What later questions reuse of one image block.

    Attributes:
        state: State after layer B.
        branch: Keys and values of the gate's layers, [layers, 2, K, T, E]; None where the gate
            was not asked.
    """

    state: StatePart
    branch: Tensor | None


@dataclass(frozen=True, slots=True)
class PrefillInput:
    """One request.

    Attributes:
        prompt: From `PrefillGate.tokenize`.
        visuals: The coarse encodings, in the order of the request's pictures; None for pictures
            of the blocks that are given.
        want_gate: Whether p(refine) is asked for.
        past: The first blocks of the prompt, computed before for the same content. Something must
            be left behind them.
    """

    prompt: Prompt
    visuals: Sequence[VisualTokens | None]
    want_gate: bool = True
    past: Sequence[GateBlock] = ()

    @property
    def num_past(self) -> int:
        """Tokens of the given blocks."""
        return self.prompt.block_ends[len(self.past) - 1] if self.past else 0


@dataclass(frozen=True, slots=True)
class PrefillOutput:
    """One request.

    Attributes:
        p_refine: Probability that the coarse picture does not suffice, in [0, 1]; None where
            there is no gate or none was asked for.
        blocks: The prompt's image blocks, the given ones first.
        state: State after layer B; shares the blocks' tensors.
    """

    p_refine: float | None
    blocks: tuple[GateBlock, ...]
    state: PrefillState


def segment(item: PrefillInput) -> Segment:
    """Give the tokens behind the given blocks to the embedding.

    Raises:
        ValueError: If a picture is not encoded, or on another grid than the prompt says.
    """
    start, visual = item.num_past, []
    for span in item.prompt.spans[len(item.past) :]:
        tokens = item.visuals[span.image] if 0 <= span.image < len(item.visuals) else None
        if tokens is None:
            raise ValueError(f"picture {span.image} of {len(item.visuals)} is not encoded")
        if tokens.grid != span.grid:
            raise ValueError(f"picture {span.image} is {tokens.grid}, the prompt says {span.grid}")
        visual.append((span.start - start, tokens))
    return Segment(item.prompt.ids[start:], tuple(visual))


def branches(item: PrefillInput) -> list[Tensor]:
    """The gate's own keys and values, of the first blocks that have them."""
    return [
        b.branch
        for b in takewhile(lambda b: b.branch is not None, item.past)
        if b.branch is not None
    ]


def bounds_of(item: PrefillInput, start: int) -> list[int]:
    """Where the blocks behind `start` and the suffix begin in the prompt, and the prompt's end."""
    ends = [end for end in item.prompt.block_ends if end > start]
    return [start, *ends, len(item.prompt.ids)]


def per_request(
    inputs: Sequence[PrefillInput], starts: Sequence[int], store: PackedKV, hidden_TD: Tensor
) -> Iterator[tuple[list[StatePart], StatePart]]:
    """Cut what a pass computed into each request's new blocks and its suffix; views."""
    offset = 0
    for item, start in zip(inputs, starts, strict=True):
        bounds = bounds_of(item, start)
        parts = [
            StatePart(store.kv[..., low:high, :], hidden_TD[low:high])
            for low, high in pairwise(bound - start + offset for bound in bounds)
        ]
        offset += len(item.prompt.ids) - start
        yield parts[:-1], parts[-1]


def state_of(item: PrefillInput, blocks: Sequence[StatePart], suffix: StatePart) -> PrefillState:
    """Put the given blocks before the new ones."""
    past = [block.state for block in item.past]
    return PrefillState(item.prompt, (*past, *blocks), suffix)


def output(
    item: PrefillInput, state: PrefillState, score: float | None, branch: Sequence[Tensor]
) -> PrefillOutput:
    """Pair each block's state with the gate's own keys and values, where they are known."""
    own: list[Tensor | None] = [*branch] if branch else [block.branch for block in item.past]
    blocks = tuple(
        GateBlock(part, kv) for part, kv in zip_longest(state.blocks, own) if part is not None
    )
    return PrefillOutput(score, blocks, state)
