"""What does handing state from gate to llm cost, above a hop that carries nothing?

State in the paper's size, from 1 to 27 MB, put into the object store, read and copied into the
llm's cache, against a plain copy of as many bytes. The gate writes it where it travels from, so
that nothing is packed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.contest import Say
from benchmarks.measure import Spread, spread
from benchmarks.report import Plot, Report, Rows, Target
from benchmarks.servers.launch import ServerProcess
from deploy.local import ENVIRONMENT

BYTES_PER_TOKEN = 44_032
"""Of Qwen2.5-VL-7B: keys and values of 18 layers and the hidden state, in bfloat16."""

EMPTY = 1
"""Tokens whose state travels inside Serve's own message: the hop that carries nothing."""

SIZES_MB = (1, 5, 27)
LIMITS_MS = {1: 1.0, 5: 2.0}
LIMIT_OF_MEMCPY = {27: 3.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffLoad:
    """What is run.

    Attributes:
        rounds: Measurements of each size.
        sizes_mb: Sizes of the state in MB.
    """

    rounds: int = 30
    sizes_mb: tuple[int, ...] = SIZES_MB


def run(load: HandoffLoad, say: Say) -> Report:
    """Measure all sizes in turn."""
    say("handing state over")
    tokens = {mb: round(mb * 1e6 / BYTES_PER_TOKEN) for mb in load.sizes_mb}
    given = {"tokens": [EMPTY, *tokens.values()], "rounds": load.rounds}
    with ServerProcess(
        "hand-over", "benchmarks.servers.handoff_probe", given, environment=ENVIRONMENT
    ) as probe:
        found = probe.ready["found"]
    empty = found[str(EMPTY)]
    by_size = {mb: found[str(count)] for mb, count in tokens.items()}
    return _report(load, empty, by_size)


def _report(
    load: HandoffLoad,
    hops: Sequence[Mapping[str, float]],
    found: Mapping[int, Sequence[Mapping[str, float]]],
) -> Report:
    def over(mb: int, which: str) -> Spread:
        return spread([1e3 * one[which] for one in found[mb]])

    empty = [one["whole_s"] for one in hops]
    inside = spread([1e3 * one["by_value_s"] for one in hops])
    above = {
        mb: spread([1e3 * (one["whole_s"] - e) for one, e in zip(runs, empty, strict=True)])
        for mb, runs in found.items()
    }
    parts = {
        name: {mb: over(mb, name) for mb in found} for name in ("pack_s", "copy_s", "memcpy_s")
    }
    by_value = {
        mb: spread(
            [
                1e3 * (one["by_value_s"] - hop["by_value_s"])
                for one, hop in zip(runs, hops, strict=True)
            ]
        )
        for mb, runs in found.items()
        if "by_value_s" in runs[0]
    }
    times = {mb: above[mb].median / parts["memcpy_s"][mb].median for mb in found}
    return Report(
        bench="handoff",
        load={**asdict(load), "state": "18 layers, 4 KV heads of 128, hidden 3584, bfloat16"},
        tables=[
            Rows(
                title=f"ms, median (quartiles) of {load.rounds}; an empty hop takes "
                f"{spread([1e3 * e for e in empty]).text(2)} by reference, "
                f"{inside.text(2)} by value",
                columns=(
                    *("MB", "above it", "packing", "copying in", "memcpy", "times memcpy"),
                    "by value, above it",
                ),
                rows=tuple(
                    (
                        str(mb),
                        above[mb].text(2),
                        *(parts[name][mb].text(2) for name in parts),
                        f"{times[mb]:.1f}",
                        by_value[mb].text(2) if mb in by_value else "",
                    )
                    for mb in found
                ),
            )
        ],
        figures={
            "empty_hop_ms": asdict(spread([1e3 * e for e in empty])),
            "empty_hop_by_value_ms": asdict(inside),
            "by_mb": {
                str(mb): {
                    "above_empty_ms": asdict(above[mb]),
                    **{f"{name.removesuffix('_s')}_ms": asdict(parts[name][mb]) for name in parts},
                    "times_memcpy": times[mb],
                    "by_value_above_empty_ms": asdict(by_value[mb]) if mb in by_value else None,
                }
                for mb in found
            },
        },
        plot=Plot(
            kind="lines",
            title="Handing state over, above an empty hop",
            x_label="MB",
            y_label="ms",
            x=tuple(float(mb) for mb in found),
            series={
                "hand-over": tuple(above[mb].median for mb in found),
                "memcpy": tuple(parts["memcpy_s"][mb].median for mb in found),
                "3 x memcpy": tuple(3 * parts["memcpy_s"][mb].median for mb in found),
            },
            log="xy",
        ),
        targets=[
            *(
                Target(f"{mb} MB, ms above an empty hop", above[mb].median, limit)
                for mb, limit in LIMITS_MS.items()
                if mb in found
            ),
            *(
                Target(f"{mb} MB, times memcpy", times[mb], limit)
                for mb, limit in LIMIT_OF_MEMCPY.items()
                if mb in found
            ),
        ],
        notes=[
            "One copy on each side: into the object store, and out of its shared memory into the "
            "consumer's cache; by value, copies are the transport's.",
        ],
    )
