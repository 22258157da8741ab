"""How many GPUs and how much network for a given rate? Worked out for the paper's 7B model.

From FLOPs, bytes and stated shares of an accelerator's peaks; nothing here was measured on one.
"""

import math
from dataclasses import dataclass

from benchmarks.flops import DecoderSize, MethodSize, VisionSize
from benchmarks.report import Rows

PAPER_7B = DecoderSize(
    hidden=3584, intermediate=18944, heads=28, kv_heads=4, head_size=128, vocabulary=152064
)
TOWER_7B = VisionSize(
    hidden=1280,
    intermediate=3420,
    depth=32,
    full=4,
    patch_values=1176,
    merge=2,
    window_cells=4,
    out=3584,
)
WEIGHT_BYTES = 15.2e9
"""Of decoder, embeddings and head in bfloat16."""

RATES = (10, 1_000, 100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What the table stands on.

    Attributes:
        peak_flop_s: Of one GPU in bfloat16.
        compute_share: Of the peak that encoding and prefill reach.
        bandwidth_bytes_s: Of one GPU's memory.
        bandwidth_share: That decoding reaches.
        decode_batch: Answers that are written together.
        answer_tokens: Of each answer.
        zoom_share: Of the requests that zoom.
        utilisation: Of a replica, so that queues stay short.
        picture_bytes: Decoded pixels of a picture.
    """

    peak_flop_s: float = 989e12
    compute_share: float = 0.4
    bandwidth_bytes_s: float = 3.35e12
    bandwidth_share: float = 0.7
    decode_batch: int = 64
    answer_tokens: int = 16
    zoom_share: float = 0.4
    utilisation: float = 0.7
    picture_bytes: float = 1280 * 960 * 3


def gpu_seconds(given: Assumptions) -> dict[str, float]:
    """GPU seconds of an average request by service."""
    size = MethodSize(
        decoder=PAPER_7B,
        vision=TOWER_7B,
        layers=28,
        split=18,
        gate_depth=3,
        rpn_depth=3,
        coarse_grid=(24, 24),
        prompt=620,
        answer=1,
    )
    direct, zoom = size.direct(), size.zoom((21, 26), 572, 1168)
    share = given.zoom_share
    mixed = {s: (1 - share) * direct.get(s, 0) + share * work for s, work in zoom.items()}
    speed = given.peak_flop_s * given.compute_share
    step_s = WEIGHT_BYTES / (given.bandwidth_bytes_s * given.bandwidth_share)
    return {
        "encoder": (mixed["encoder.coarse"] + mixed["encoder.roi"]) / speed,
        "gate": mixed["gate.prefill"] / speed,
        "rpn": mixed["rpn.propose"] / speed,
        "llm": mixed["llm.resume"] / speed
        + (given.answer_tokens - 1) * step_s / given.decode_batch,
    }


def network_bytes(given: Assumptions) -> float:
    """Bytes of an average request between services, where each runs on a node of its own."""
    visual = 576 * PAPER_7B.hidden * 2
    kv = 2 * 18 * PAPER_7B.kv_heads * PAPER_7B.head_size * 2
    state = 620 * (kv + 2 * PAPER_7B.hidden)
    direct = given.picture_bytes + visual + state
    zoom = direct + state + given.picture_bytes + 546 * PAPER_7B.hidden * 2
    return (1 - given.zoom_share) * direct + given.zoom_share * zoom


def capacity_rows(given: Assumptions) -> Rows:
    """Replicas of each service, GPUs and network for the rates that are asked about."""
    seconds, num_bytes = gpu_seconds(given), network_bytes(given)
    rows = []
    for rate in RATES:
        replicas = {n: math.ceil(rate * s / given.utilisation) for n, s in seconds.items()}
        # Below one GPU in all, the four services share one.
        busy = rate * sum(seconds.values()) / given.utilisation
        gpus = 1 if busy <= 1 else sum(replicas.values())
        rows.append(
            (
                f"{rate:,}",
                *(f"{count:,}" for count in replicas.values()),
                f"{gpus:,}",
                f"{rate * num_bytes / 1e9:,.1f}",
            )
        )
    return Rows(
        title="Qwen2.5-VL-7B, worked out from FLOPs and bytes, no reuse of pictures",
        columns=("requests/s", *seconds, "GPUs", "network GB/s"),
        rows=tuple(rows),
    )
