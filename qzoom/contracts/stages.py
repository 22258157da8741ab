"""What do gateway and stages say to each other? One message per hop, all of them small.

Tensors never travel in these messages: a stage that makes some yields its reply first and then
one uint8 buffer per `BundleHeader` of the reply; the gateway passes the references on unopened,
in the order given here. Everything is plain data, so that the gateway needs no torch.

    encoder.encode_coarse(EncodeCoarse, [pixels])             -> Encoded, visual
    gate.prefill(Prefill, [visual, ...])                      -> Prefilled, block, ..., suffix
    gate.judge(Judge, [block, ..., suffix])                   -> Judged
    rpn.propose(Propose, [block, ..., suffix])                -> Proposed
    encoder.encode_roi(EncodeRoi, [pixels])                   -> Encoded, visual
    llm.answer(Resume, [block, ..., suffix] or
                       [block, ..., suffix, roi, later visual, ...])    -> Token, Token, ...

A block is the state of the tokens up to the end of one picture, behind the block before it. Every
block has a key (`contracts.keys`); who holds what a key names does not open the reference, and the
gate does not send a block that the caller says it has.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qzoom.contracts.conversation import Conversation
from qzoom.contracts.sampling import Sampling
from qzoom.contracts.tenancy import DEFAULT_TENANT
from qzoom.contracts.tensors import BundleHeader

Box = tuple[int, int, int, int]
"""(x0, y0, x1, y1), the right and lower edges exclusive."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every stage must know about the request that it works for.

    Attributes:
        request_id: Names the request in logs, traces and errors.
        deadline: Unix time in seconds after which nobody waits for the answer.
        trace: W3C trace context headers (`traceparent`, `tracestate`).
        tenant: Who asks; `contracts.tenancy.cache_salt` of it belongs in the key of every cache.
    """

    request_id: str
    deadline: float
    trace: dict[str, str] = field(default_factory=dict)
    tenant: str = DEFAULT_TENANT

    @property
    def traceparent(self) -> str:
        """Which span called; empty where nothing is traced."""
        return self.trace.get("traceparent", "")


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of one stage call went.

    Attributes:
        queue_s: Seconds from the arrival at the replica to the start of its batch.
        compute_s: Seconds that the batch took.
        batch_size: Requests that shared the batch.
        cache: What the replica's cache gave, see `CacheUse`; None where there is none.
        peers: `traceparent` of other requests of the batch, some of them where there are many.
    """

    queue_s: float
    compute_s: float
    batch_size: int
    cache: "CacheUse | None" = None
    peers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheUse:
    """How much of one call a cache spared.

    Attributes:
        reused: Tokens whose state or encoding was there.
        computed: Tokens that could have been there, and were computed.
        held_bytes: What the replica's cache holds after the call; None where none was asked.
    """

    reused: int
    computed: int
    held_bytes: int | None = None

    @property
    def is_hit(self) -> bool:
        """Whether anything was spared."""
        return self.reused > 0


@dataclass(frozen=True, slots=True)
class EncodeCoarse:
    """Encode a whole picture.

    Attributes:
        context: Of the request.
        max_tokens: The coarse budget; None takes the model's default.
        digest: SHA-256 of the decoded pixels, in hexadecimal.
    """

    context: Context
    max_tokens: int | None
    digest: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """Where to look.

    Attributes:
        image: Index of the picture in the request.
        box_cells: The box in cells of the coarse grid.
        box_px: The box in pixels of the source picture.
        score: Highest value of the smoothed map inside the box, in [0, 1].
        kept: Which of the crop's tokens are used, row-major indices; None uses all (only
            LLaVA-1.5 drops some).
    """

    image: int
    box_cells: Box
    box_px: Box
    score: float
    kept: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class EncodeRoi:
    """Encode a crop of the source picture.

    Attributes:
        context: Of the request.
        proposal: The region.
        max_tokens: The budget; None takes the model's default.
        digest: SHA-256 of the decoded pixels of the whole picture, in hexadecimal.
    """

    context: Context
    proposal: Proposal
    max_tokens: int | None
    digest: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """Visual tokens of one picture or crop.

    Attributes:
        grid: (H, W) in cells; one cell is one visual token.
        num_tokens: Visual tokens in the bundle (H * W, or fewer where some were dropped).
        visual: Header of the bundle with `features` [1 + deepstack levels, tokens, hidden].
        timing: Of this call.
        key: Names these tokens by their content, see `contracts.keys`.
    """

    grid: tuple[int, int]
    num_tokens: int
    visual: BundleHeader
    timing: Timing
    key: bytes


@dataclass(frozen=True, slots=True)
class Prefill:
    """Run layers 1..B and the gate over the coarse prompt.

    Attributes:
        context: Of the request.
        conversation: All turns; pictures refer to `images`.
        images: The coarse encodings in the order of the request's pictures.
        image_sizes: (width, height) of the source pictures in pixels.
        want_gate: False where the route is given and p(refine) is not asked for.
        held: Keys of blocks that the caller has: they need not be sent.
    """

    context: Context
    conversation: Conversation
    images: tuple[Encoded, ...]
    image_sizes: tuple[tuple[int, int], ...]
    want_gate: bool = True
    held: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class ImageSpan:
    """Where one picture lies in the prompt.

    Attributes:
        image: Index of the picture in the request.
        start: Position in the token sequence of its first visual token.
        grid: (H, W) in cells, so that its tokens end before `start + H * W`.
        size_px: (width, height) of the source picture.
    """

    image: int
    start: int
    grid: tuple[int, int]
    size_px: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Prompt:
    """The tokenised coarse prompt.

    Attributes:
        ids: Token ids [T], int32; the positions of visual tokens hold the placeholder's id.
        positions: M-RoPE positions [3, T] (t, h, w), float32; all rows equal on LLaVA-1.5.
        spans: The pictures in the order of the sequence, which may differ from the request's.
    """

    ids: NDArray[np.int32]
    positions: NDArray[np.float32]
    spans: tuple[ImageSpan, ...]

    @property
    def block_ends(self) -> tuple[int, ...]:
        """Where each image block ends: what lies before is reusable by later questions."""
        return tuple(s.start + s.grid[0] * s.grid[1] for s in self.spans)

    @property
    def prefix_len(self) -> int:
        """Tokens up to the end of the last image block."""
        return self.block_ends[-1] if self.spans else 0


@dataclass(frozen=True, slots=True)
class Prefilled:
    """The state after layer B, and the gate's score.

    Attributes:
        prompt: The prompt that was run.
        p_refine: Probability that the coarse picture does not suffice, in [0, 1]; None where
            the checkpoint has no gate or none was asked for.
        blocks: Headers of the image blocks' states: `kv` [B, 2, KV heads, P, head size] and
            `hidden` [P, hidden size].
        keys: Names each block, and all that comes before it, by its content.
        suffix: Header of the state of the remaining tokens, same names.
        timing: Of this call.
    """

    prompt: Prompt
    p_refine: float | None
    blocks: tuple[BundleHeader, ...]
    keys: tuple[bytes, ...]
    suffix: BundleHeader
    timing: Timing


@dataclass(frozen=True, slots=True)
class Judge:
    """Run the gate over a state that was computed without it."""

    context: Context
    prefilled: Prefilled


@dataclass(frozen=True, slots=True)
class Judged:
    """The gate's score.

    Attributes:
        p_refine: Probability that the coarse picture does not suffice, in [0, 1]; None where the
            checkpoint has no gate.
        timing: Of this call.
    """

    p_refine: float | None
    timing: Timing


@dataclass(frozen=True, slots=True)
class Propose:
    """Ask the RPN for a region (tau None: the model's default)."""

    context: Context
    prefilled: Prefilled
    tau_roi: float | None
    want_heatmap: bool = False


@dataclass(frozen=True, slots=True)
class Proposed:
    """The RPN's answer.

    Attributes:
        proposal: Where to look; None if no cell passed the threshold, which means direct.
        tau_roi: The threshold that the map was cut at.
        heatmap: Smoothed map [H, W] in [0, 1], float32, of the picture that was chosen (or of
            the picture with the highest score), where it was asked for.
        heatmap_image: Index of that picture in the request.
        timing: Of this call.
    """

    proposal: Proposal | None
    tau_roi: float
    heatmap: NDArray[np.float32] | None
    heatmap_image: int
    timing: Timing


@dataclass(frozen=True, slots=True)
class Resume:
    """Finish the prefill above layer B and decode.

    Attributes:
        context: Of the request.
        prefilled: The coarse state.
        sampling: How to draw tokens.
        proposal: Where the RoI lies; None takes the direct route.
        roi: The RoI's encoding, with `proposal`.
        later_images: Encodings of the pictures after the chosen one in the sequence: they are
            part of the tail that is run again.
    """

    context: Context
    prefilled: Prefilled
    sampling: Sampling
    proposal: Proposal | None = None
    roi: Encoded | None = None
    later_images: tuple[Encoded, ...] = ()


FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Token:
    """One step of the answer.

    Attributes:
        text: Text that became certain with this step; may be empty.
        ids: Tokens drawn since the last message.
        finish: Why the answer ended; None while it goes on.
        prompt_tokens: Length of the sequence before the answer, visual tokens included; in the
            first message only.
        resume: Time of the resumed prefill, in the first message only.
        decode: Time of decoding, in the last message only.
    """

    text: str
    ids: tuple[int, ...]
    finish: FinishReason | None = None
    prompt_tokens: int | None = None
    resume: Timing | None = None
    decode: Timing | None = None
