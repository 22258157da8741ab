"""`qzoom bench all`: every bench, each in a process of its own, with sizes for a small machine."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cli.console import Failure, err, out

BENCHES: tuple[tuple[str, ...], ...] = (
    ("stages",),
    ("method",),
    ("decode",),
    ("handoff",),
    ("pipe",),
    ("reuse",),
    ("memory",),
    ("scale",),
    ("overload",),
    ("load", "--rates", "2,8,16,32,64", "--seconds", "6"),
    (
        *("load", "--rates", "2,8,16,32,64", "--seconds", "6"),
        *("--per-picture", "8", "--name", "load-reuse"),
    ),
)
"""In the order in which they run: the shortest first."""

QUICK = {"pipe", "reuse", "memory", "scale", "overload", "load"}
"""Benches that know `--quick`; the others take less than a minute."""

TIMEOUT_S = 900.0
"""Of one bench; a bench that hangs does not cost the others."""


def run_all(
    folder: Annotated[Path, typer.Option("--out", help="Folder for JSON and plots.")],
    quick: Annotated[bool, typer.Option("--quick", help="Rougher, for a first look.")] = False,
    only: Annotated[str | None, typer.Option(help="Names of benches, with commas between.")] = None,
) -> None:
    """Run every bench, one after the other: under 25 minutes on a quiet machine of two cores."""
    wanted = None if only is None else set(only.split(","))
    if wanted is not None and (unknown := wanted - {bench[0] for bench in BENCHES}):
        raise Failure(f"--only: no bench is named {', '.join(sorted(unknown))}")
    chosen = [
        (*bench, *(("--quick",) if quick and bench[0] in QUICK else ()))
        for bench in BENCHES
        if wanted is None or bench[0] in wanted
    ]
    table = Table(title=f"results in {folder}", title_justify="left")
    for name in ("bench", "took", "outcome"):
        table.add_column(name)
    failed = []
    for bench in chosen:
        command = [sys.executable, "-m", "cli", "bench", *bench, "--out", str(folder)]
        began = time.monotonic()
        err.rule(" ".join(bench))
        try:
            code: int | None = subprocess.run(command, timeout=TIMEOUT_S, check=False).returncode
        except subprocess.TimeoutExpired:
            code = None
        took = f"{time.monotonic() - began:.0f} s"
        outcome = {0: "[green]done[/]", None: "[red]took too long[/]"}.get(code, "[red]failed[/]")
        table.add_row(" ".join(bench), took, outcome)
        if code != 0:
            failed.append(bench[0])
    out.print(table)
    if failed:
        raise Failure(f"failed: {', '.join(failed)}", 1)
