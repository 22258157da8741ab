"""`qzoom demo`: the whole system at work, in two minutes.

Starts gateway and services on free ports, asks questions over REST and gRPC, shows which way each
took and what it cost, and compares with what the generator of the pictures knows.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from cli import client
from cli.answer import Answered, from_answer, stage_table
from cli.console import out, printable
from cli.examples import Example, examples
from cli.system import System, running_system, service_table
from cli.waterfall import Waterfall
from qzoom.builtin import builtin_model
from qzoom.overlay import draw_overlay

ANSWER_TIMEOUT_S = 60.0
MAX_TOKENS = 16


@dataclass(slots=True)
class Report:
    """What was expected, and whether it held."""

    expectations: list[tuple[str, bool]] = field(default_factory=list)

    def expect(self, what: str, holds: bool) -> bool:
        """Write an expectation down."""
        self.expectations.append((what, holds))
        return holds

    def show(self) -> int:
        """Print the verdict; returns the exit code."""
        failed = [what for what, holds in self.expectations if not holds]
        for what in failed:
            out.print(f"[bold red]not as expected:[/] {what}", highlight=False)
        held = len(self.expectations) - len(failed)
        colour = "red" if failed else "green"
        out.print(f"[bold {colour}]{held} of {len(self.expectations)} expectations held[/]")
        return 1 if failed else 0


def demo(
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint folder; the built-in if not given.")
    ] = None,
    save: Annotated[Path, typer.Option(help="Folder for pictures of heat map and box.")] = Path(
        "runs/demo"
    ),
) -> None:
    """Start the system, ask example questions over REST and gRPC, show what happened, stop."""
    from deploy.config import AppConfig
    from deploy.local import LocalConfig
    from deploy.machine import free_port

    began = time.monotonic()
    report = Report()
    save.mkdir(parents=True, exist_ok=True)
    config = LocalConfig(
        app=AppConfig(model=model or builtin_model()), port=free_port(), grpc_port=free_port()
    )
    _step(f"starting the system: REST on port {config.port}, gRPC on port {config.grpc_port}")
    with running_system(config) as system:
        out.print(service_table(system.services))
        asked = list(_ask_all(system, report))
        _compare_direct(system, asked, report)
        _draw(asked, save)
        _show_trace(system, asked)
        _step("stopping the system")
    _step(f"done in {time.monotonic() - began:.0f} s")
    raise typer.Exit(report.show())


def _ask_all(system: System, report: Report) -> Iterator[tuple[Example, Answered]]:
    """Ask every example over both protocols and print one row for each answer."""
    _step("asking questions about fresh pictures over REST and gRPC")
    for example in examples():
        out.print(f"\n[bold]{example.name}[/]: {example.question}  (expected: {example.expected})")
        table = _answer_table()
        answers = {
            "REST": _ask(system.url, system.model, example, {"explain": True}),
            "gRPC": _ask(f"grpc://{system.grpc_address}", system.model, example, {}),
        }
        for protocol, answered in answers.items():
            name, said = f"{example.name}, {protocol}", printable(answered.text)
            right = report.expect(
                f"{name}: {example.expected!r}, got {said!r}", _same(said, example.expected)
            )
            report.expect(
                f"{name}: route {example.route}, got {answered.route}",
                answered.route == example.route,
            )
            _add_row(table, protocol, answered, right)
        out.print(table)
        out.print(stage_table(answers["REST"].stage_ms))
        yield example, answers["REST"]


def _ask(url: str, model: str, example: Example, options: dict[str, object]) -> Answered:
    return from_answer(
        client.ask_server(
            url,
            example.file(),
            example.question,
            options,
            MAX_TOKENS,
            timeout_s=ANSWER_TIMEOUT_S,
            model=model,
        )
    )


def _compare_direct(system: System, asked: list[tuple[Example, Answered]], report: Report) -> None:
    """Give the direct route all visual tokens that zooming used: it still cannot read the print."""
    _step("the small print again, without zooming, for the same number of visual tokens")
    table = _answer_table()
    for example, zoomed in asked:
        if not example.needs_detail:
            continue
        budget = zoomed.tokens["coarse"] + zoomed.tokens["roi"]
        options: dict[str, object] = {"route": "direct", "max_visual_tokens": budget}
        direct = _ask(system.url, system.model, example, options)
        report.expect(
            f"{example.name}: a wrong answer on the direct route, got {printable(direct.text)!r}",
            not _same(direct.text, example.expected),
        )
        for name, answered in (("zoom", zoomed), ("direct", direct)):
            right = _same(answered.text, example.expected)
            _add_row(table, f"{example.name}: {name}", answered, right)
    out.print(table)


def _draw(asked: list[tuple[Example, Answered]], folder: Path) -> None:
    for example, answered in asked:
        if answered.box_px is None:
            continue
        path = folder / f"{example.name.replace(', ', '-').replace(' ', '-')}.png"
        draw_overlay(example.picture, answered.look(example.question)).save(path)
        _step(f"wrote heat map and box over the picture: {path}")


def _show_trace(system: System, asked: list[tuple[Example, Answered]]) -> None:
    """Draw the waterfall of the last question that was zoomed."""
    zoomed = [answered for _, answered in asked if answered.route == "zoom"]
    if zoomed:
        _step("where the time of a zoomed question went (`qzoom trace`)")
        out.print(Waterfall(client.get(system.url, f"/v1/traces/{zoomed[-1].trace_id}")))


def _answer_table() -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "answer", "", "route", "p(refine)", "box in pixels"):
        table.add_column(heading)
    for heading in ("coarse", "RoI", "spared", "ms"):
        table.add_column(heading, justify="right")
    return table


def _add_row(table: Table, name: str, answered: Answered, right: bool) -> None:
    table.add_row(
        name,
        Text(printable(answered.text)),
        "[green]right[/]" if right else "[red]wrong[/]",
        answered.route,
        "" if answered.p_refine is None else f"{answered.p_refine:.3f}",
        "" if answered.box_px is None else str(answered.box_px),
        *(str(answered.tokens[kind]) for kind in ("coarse", "roi", "spared")),
        f"{sum(sum(spent) for spent in answered.stage_ms.values()):.0f}",
    )


def _same(answer: str, expected: str) -> bool:
    return answer.strip().lower() == expected.strip().lower()


def _step(text: str) -> None:
    out.print(f"\n[bold cyan]>[/] {text}", highlight=False)
