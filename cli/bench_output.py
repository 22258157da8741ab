"""What does a benchmark show and leave? Tables on the terminal, JSON and a plot where asked."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from cli.console import err, out

if TYPE_CHECKING:
    from benchmarks.report import Report, Rows, Target


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show what is being measured: a spinner on a terminal, lines elsewhere."""
    if err.is_terminal:
        with err.status("measuring") as status:
            yield status.update
        return
    shown: list[str] = []

    def say(what: str) -> None:
        # Rounds repeat what was said before.
        if what not in shown:
            shown.append(what)
            err.print(f"[dim]{what}[/]", highlight=False)

    yield say


def finish(report: "Report", folder: Path | None) -> None:
    """Print a result, and write its files if a folder is named."""
    from benchmarks.results import caption, write_report

    command = typed()
    for rows in report.tables:
        out.print(_table(rows))
    if report.targets:
        out.print(_targets(list(report.targets)))
    for note in report.notes:
        out.print(f"[dim]{note}[/]", highlight=False)
    out.print(f"[dim]{caption(report, command)}[/]", highlight=False)
    if folder is not None:
        for path in write_report(report, folder, command):
            err.print(f"wrote {path}", highlight=False)


def typed() -> str:
    """Return the command line without the path of the program."""
    return shlex.join(["qzoom", *sys.argv[1:]])


def _table(rows: "Rows") -> Table:
    table = Table(title=rows.title, title_justify="left")
    for number, name in enumerate(rows.columns):
        table.add_column(name, justify="left" if number == 0 else "right")
    for cells in rows.rows:
        table.add_row(*cells)
    return table


def _targets(targets: "list[Target]") -> Table:
    table = Table(title="asked for", title_justify="left")
    for number, name in enumerate(("figure", "measured", "limit", "")):
        table.add_column(name, justify="left" if number == 0 else "right")
    for target in targets:
        sign = ">=" if target.at_least else "<="
        verdict = "[green]met[/]" if target.is_met else "[red]missed[/]"
        table.add_row(target.what, f"{target.value:.4g}", f"{sign} {target.limit:g}", verdict)
    return table
