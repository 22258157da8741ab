"""`qzoom settings`: what changes while the system runs."""

import json
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.console import Failure, err, out
from cli.store import Address, Namespace, with_store
from qzoom.store.messages import Configuration

Name = Annotated[
    str,
    typer.Argument(
        help="tau_gate, limits.<limit> for every tenant, or limits.<tenant>.<limit>; limits are "
        "requests_per_minute, visual_tokens_per_minute, generated_tokens_per_minute, concurrency."
    ),
]

app = typer.Typer(
    no_args_is_help=True,
    help="Change settings while the system runs: every gateway obeys within a second.",
)


@app.command(name="set")
def set_setting(
    name: Name,
    value: Annotated[str, typer.Argument(help="A number, or none for an unlimited limit.")],
    *,
    store: Address = "",
    namespace: Namespace = "qzoom",
) -> None:
    """Write a setting."""
    from qzoom.store.runtime import check

    checked = check(name, value)
    with_store(store, namespace, lambda opened: opened.put_setting(name, checked))
    err.print(f"{escape(name)} is {escape(checked)}", highlight=False)


@app.command()
def unset(name: Name, *, store: Address = "", namespace: Namespace = "qzoom") -> None:
    """Remove a setting, so that what the gateways were started with holds again."""
    from qzoom.store.runtime import check_name

    check_name(name)
    with_store(store, namespace, lambda opened: opened.put_setting(name, None))
    err.print(f"{escape(name)} is not set", highlight=False)


@app.command()
def get(name: Name, *, store: Address = "", namespace: Namespace = "qzoom") -> None:
    """Print the value of a setting; exit code 2 if it is not set."""
    from qzoom.store.runtime import check_name

    check_name(name)
    settings = _read(store, namespace).settings
    if name not in settings:
        raise Failure(f"{name} is not set")
    out.print(settings[name], markup=False, highlight=False)


@app.command(name="list")
def list_settings(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    store: Address = "",
    namespace: Namespace = "qzoom",
) -> None:
    """List what is set; what is not follows from how the gateways were started."""
    settings = dict(sorted(_read(store, namespace).settings.items()))
    if as_json:
        out.print_json(json.dumps(settings))
        return
    if not settings:
        err.print("nothing is set")
        return
    table = Table("setting", "value")
    for name, value in settings.items():
        table.add_row(escape(name), escape(value))
    out.print(table)


def _read(store: str, namespace: str) -> Configuration:
    configuration = with_store(
        store, namespace, lambda opened: opened.configuration("none is known")
    )
    assert configuration is not None, "another version is known"
    return configuration
