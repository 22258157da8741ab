"""How does a trace look in a terminal? One bar per call: waiting, computing, travelling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

LEAST_BAR, MOST_BAR = 12, 44
"""Characters of the bars; what is left of the terminal's width beside the figures."""

TRACE_ID_CHARS = 32

_NUMBERS = ("start", "queue", "compute", "total", "batch", "reused")
_NUMBER_WIDTH = 7
_NAME_WIDTH = 14
_TRAVEL, _QUEUE, _COMPUTE, _LOCAL = "bright_black", "yellow", "green", "cyan"
_SHOWN = (
    "qzoom.route",
    "qzoom.p_refine",
    "qzoom.tau_gate",
    "qzoom.box",
    "qzoom.tokens.coarse",
    "qzoom.tokens.roi",
    "qzoom.tokens.spared",
    "qzoom.degraded",
    "gen_ai.usage.output_tokens",
)


@dataclass(frozen=True, slots=True)
class Waterfall:
    """One request: a title, one row per call, and what the colours mean.

    Attributes:
        trace: Answer of `GET /v1/traces/{id}` (`qzoom.telemetry.traces.TraceRecord`).
    """

    trace: Mapping[str, Any]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it as wide as the terminal allows."""
        beside = _NAME_WIDTH + 2 + len(_NUMBERS) * (_NUMBER_WIDTH + 1)
        width = min(MOST_BAR, max(LEAST_BAR, options.max_width - beside))
        yield _title(self.trace)
        yield self._table(width)
        yield _legend()

    def _table(self, width: int) -> Table:
        total_ms = max(float(self.trace["duration_ms"]), 1e-6)
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        table.add_column("stage", min_width=_NAME_WIDTH)
        table.add_column(f"0 ms{total_ms:>{width - 7}.0f} ms", width=width, no_wrap=True)
        for heading in _NUMBERS:
            table.add_column(heading, justify="right", min_width=len(heading), no_wrap=True)
        for span in self.trace["spans"]:
            name = Text(span["name"])
            if span["error"]:
                name.append(f"\n{span['error']}", "red")
            table.add_row(
                name,
                _bar(span, total_ms, width),
                _ms(span["start_ms"]),
                _ms(span["queue_ms"]),
                _ms(span["compute_ms"]),
                _ms(span["duration_ms"]),
                str(span["batch_size"] or ""),
                str(span.get("reused_tokens") or ""),
            )
        return table


def recent_table(recent: Sequence[Mapping[str, Any]]) -> RenderableType:
    """List recent requests, the newest first: the answer of `GET /v1/traces`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("started", no_wrap=True, min_width=8)
    table.add_column("ms", justify="right", no_wrap=True, min_width=6)
    table.add_column("route", no_wrap=True, min_width=6)
    # Whole, since `qzoom trace` wants it; on a narrow terminal the others give way.
    table.add_column("trace", no_wrap=True, min_width=TRACE_ID_CHARS)
    table.add_column("outcome", no_wrap=True)
    table.add_column("request", no_wrap=True)
    for row in recent:
        table.add_row(
            datetime.fromtimestamp(row["started"]).strftime("%H:%M:%S"),
            f"{row['duration_ms']:.0f}",
            row["route"] or "",
            row["trace_id"],
            row["outcome"],
            row["request_id"],
        )
    return table


def _title(trace: Mapping[str, Any]) -> Text:
    title = Text(f"trace {trace['trace_id']}\n", "bold")
    title.append(f"request {trace['request_id']}, {trace['outcome']}", "not bold")
    for name in _SHOWN:
        value = trace["attributes"].get(name)
        if value is not None:
            title.append(f"  {name.removeprefix('qzoom.')}={_short(value)}", "cyan not bold")
    return title.append("\n")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _bar(span: Mapping[str, Any], total_ms: float, width: int) -> Text:
    """Draw a call: what it travelled, then waited, then computed, at the scale of the request."""
    begin = min(width - 1, int(span["start_ms"] / total_ms * width))
    cells = max(1, round(span["duration_ms"] / total_ms * width))
    cells = min(cells, width - begin)
    bar = Text(" " * begin)
    if span["queue_ms"] is None:
        return bar.append("█" * cells, _LOCAL)
    duration_ms = max(float(span["duration_ms"]), 1e-6)
    queue = round(span["queue_ms"] / duration_ms * cells)
    compute = min(round(span["compute_ms"] / duration_ms * cells), cells - queue)
    travel = cells - queue - compute
    # The way there and the way back are not told apart; most of it is the way there.
    bar.append("░" * travel, _TRAVEL)
    bar.append("▒" * queue, _QUEUE)
    return bar.append("█" * compute, _COMPUTE)


def _legend() -> Text:
    return (
        Text("\n")
        .append("█ gateway  ", _LOCAL)
        .append("░ transfer  ", _TRAVEL)
        .append("▒ queue  ", _QUEUE)
        .append("█ compute", _COMPUTE)
    )


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
