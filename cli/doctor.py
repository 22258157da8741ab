"""`qzoom doctor`: what does this machine have, what is missing, and which command brings it?"""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.checks import Finding, Verdict, examine
from cli.console import out

_LOOKS = {
    Verdict.OK: "[green]ok[/]",
    Verdict.NOTE: "[yellow]note[/]",
    Verdict.MISSING: "[bold red]missing[/]",
}


def doctor(
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint folder to look at; the built-in if not given.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="HTTP port to be used.")] = 8000,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535, help="gRPC port.")] = 9000,
) -> None:
    """Say what is missing on this machine; exit code 1 if the system cannot run."""
    findings = examine(model, (port, grpc_port))
    out.print(_table(findings))
    missing = [finding for finding in findings if finding.verdict is Verdict.MISSING]
    if missing:
        names = ", ".join(finding.what for finding in missing)
        out.print(f"[bold red]Not ready:[/] {names}.", highlight=False)
        raise typer.Exit(1)
    out.print("[bold green]Ready.[/] Try [bold]qzoom demo[/].")


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("what", style="bold")
    table.add_column("found", overflow="fold")
    table.add_column("what to do", overflow="fold", style="cyan")
    for finding in findings:
        table.add_row(
            _LOOKS[finding.verdict],
            escape(finding.what),
            escape(finding.found),
            escape(finding.remedy),
        )
    return table
