"""Figures as a table for the terminal and for documents."""

from collections.abc import Callable, Sequence

from rich.table import Table

from evaluation.summary import KindSummary, Summary
from qzoom.metrics.intervals import Mean

WIDE = 4
"""More modes than this do not fit side by side."""
MOST_GROUPS = 3

Row = tuple[str, Callable[[Summary], str]]


def rows(summaries: Sequence[Summary]) -> list[list[tuple[str, list[str]]]]:
    """Sections of rows, each with one cell for each summary; rows without any figure are left out.

    Args:
        summaries: The columns.
    """
    groups = sorted({group for s in summaries for group in s.groups})
    domains = sorted({domain for s in summaries for domain in s.domains})
    right: list[Row] = [("right, all", lambda s: interval(s.all))]
    if len(groups) > 1:
        right += [(f"right, {g}", _in_group(g)) for g in groups]
    if len(domains) > 1:
        right += [(f"right, {d}", _in_domain(d)) for d in domains]
    looking: list[Row] = [
        ("p(refine)", lambda s: number(s.p_refine)),
        ("sent to zoom", lambda s: percent(s.zoom_share)),
        ("detail sent to zoom", lambda s: percent(s.zoom_on_detail)),
        ("rest kept direct", lambda s: percent(s.direct_on_coarse)),
        ("evidence in box", lambda s: percent(s.box_recall)),
        ("in a constant box", lambda s: share(s.constant_box_recall)),
        ("box area", lambda s: percent(s.box_area)),
    ]
    kinds = sorted({kind for s in summaries for kind in s.kinds})
    detail = [row for kind in kinds for row in _kind_rows(kind)] if len(kinds) > 1 else []
    cost: list[Row] = [
        ("visual tokens", lambda s: f"{s.visual_tokens:.0f}"),
        ("CPU ms a request", lambda s: "-" if s.cpu_ms is None else f"{s.cpu_ms.value:.1f}"),
        ("requests a CPU s", lambda s: "-" if s.per_cpu_s is None else f"{s.per_cpu_s:.1f}"),
        ("latency ms, p50 / p95", lambda s: latency(s.latency_ms)),
        ("failed", lambda s: str(s.errors) if s.errors else "-"),
    ]
    sections = [[(name, [cell(s) for s in summaries]) for name, cell in part]
                for part in (right, looking, detail, cost)]  # fmt: skip
    kept = ([row for row in part if set(row[1]) != {"-"}] for part in sections)
    return [part for part in kept if part]


def terminal_table(summaries: Sequence[Summary], title: str) -> Table:
    """Build the table for a terminal: one column for each mode, or one row where there are many."""
    if len(summaries) > WIDE:
        return _long_table(summaries, title)
    table = Table(title=title)
    table.add_column("")
    for summary in summaries:
        table.add_column(summary.mode, justify="right")
    for section in rows(summaries):
        for name, cells in section:
            table.add_row(name, *cells)
        table.add_section()
    return table


def _long_table(summaries: Sequence[Summary], title: str) -> Table:
    """One row for each mode, the chief figures only; table.md has them all."""
    # Fits 80 columns with three groups.
    table = Table(title=title, box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    groups = sorted({group for s in summaries for group in s.groups})
    shown = groups if 1 < len(groups) <= MOST_GROUPS else []
    table.add_column("", no_wrap=True)
    for heading in ("right", "95 %", *shown, "zoomed", "in box", "area", "tokens", "CPU ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for s in summaries:
        found = [s.groups.get(group) for group in shown]
        table.add_row(
            s.mode,
            f"{s.all.value:.3f}",
            f"{s.all.low:.2f}-{s.all.high:.2f}".replace("0.", "."),
            *("-" if mean is None else f"{mean.value:.3f}" for mean in found),
            f"{100 * s.zoom_share.value:.0f} %",
            *("-" if m is None else f"{100 * m.value:.0f} %" for m in (s.box_recall, s.box_area)),
            f"{s.visual_tokens:.0f}",
            "-" if s.cpu_ms is None else f"{s.cpu_ms.value:.1f}",
        )
    return table


def markdown_table(summaries: Sequence[Summary]) -> str:
    """Build the table for a document."""
    lines = [
        "| | " + " | ".join(s.mode for s in summaries) + " |",
        "|---|" + "---|" * len(summaries),
    ]
    for section in rows(summaries):
        lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in section]
    return "\n".join(lines) + "\n"


def interval(mean: Mean | None) -> str:
    """Three digits, with the interval in two."""
    return "-" if mean is None else f"{mean.value:.3f} ({mean.low:.2f}-{mean.high:.2f})"


def percent(mean: Mean | None) -> str:
    """Percent of a mean."""
    return "-" if mean is None else share(mean.value)


def share(value: float | None) -> str:
    """Percent of a share."""
    return "-" if value is None else f"{100 * value:.1f} %"


def latency(ms: tuple[float, float] | None) -> str:
    """Median and 95th percentile."""
    return "-" if ms is None else f"{ms[0]:.0f} / {ms[1]:.0f}"


def number(mean: Mean | None) -> str:
    """Two digits of a mean."""
    return "-" if mean is None else f"{mean.value:.2f}"


def _in_group(group: str) -> Callable[[Summary], str]:
    return lambda s: interval(s.groups.get(group))


def _in_domain(domain: str) -> Callable[[Summary], str]:
    return lambda s: interval(s.domains.get(domain))


def _kind_rows(kind: str) -> list[Row]:
    """Figures of one kind of question, those that need detail."""

    def row(name: str, cell: Callable[[KindSummary], str]) -> Row:
        return f"{kind}: {name}", lambda s: cell(s.kinds[kind]) if kind in s.kinds else "-"

    return [
        row("right", lambda k: interval(k.right)),
        row("sent to zoom", lambda k: percent(k.zoom_share)),
        row("evidence in box", lambda k: percent(k.box_recall)),
        row("box area", lambda k: percent(k.box_area)),
    ]
