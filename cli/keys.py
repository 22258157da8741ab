"""`qzoom keys`: who may ask."""

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from cli.console import err, out, printable
from cli.store import Address, Namespace, with_store
from qzoom.store.messages import KeyRecord

DAY_S = 86_400.0

app = typer.Typer(
    no_args_is_help=True,
    help="Make, list and revoke API keys; `qzoom serve --auth required` asks for them.",
)


@app.command()
def create(
    *,
    tenant: Annotated[str, typer.Option(help="Whose requests the key lets in.")] = "default",
    name: Annotated[str, typer.Option(help="What to call it, such as the name of a program.")] = "",
    days: Annotated[
        float | None,
        typer.Option(min=0.001, max=36_500, help="Days until it expires; never if not given."),
    ] = None,
    store: Address = "",
    namespace: Namespace = "qzoom",
) -> None:
    """Make a key and print it, once: only a digest of it is kept."""
    from qzoom.store.api_keys import new_key

    lifetime_s = None if days is None else days * DAY_S
    key, record = new_key(tenant, name, time.time(), lifetime_s)
    with_store(store, namespace, lambda opened: opened.add_key(record))
    err.print(
        f"a key of tenant {record.tenant}; keep it, it cannot be shown again. "
        f"Its id is {record.id}.",
        highlight=False,
    )
    out.print(key, markup=False, highlight=False, soft_wrap=True)


@app.command(name="list")
def list_keys(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    store: Address = "",
    namespace: Namespace = "qzoom",
) -> None:
    """List all keys, the newest first, as far as they may be shown."""
    configuration = with_store(
        store, namespace, lambda opened: opened.configuration("none is known")
    )
    assert configuration is not None, "another version is known"
    records = sorted(configuration.keys.values(), key=lambda r: r.created, reverse=True)
    if as_json:
        shown = [{k: v for k, v in asdict(r).items() if k != "digest"} for r in records]
        out.print_json(json.dumps(shown))
        return
    if not records:
        err.print("no keys; `qzoom keys create` makes one")
        return
    table = Table("key", "tenant", "name", "created", "state")
    for record in records:
        table.add_row(
            f"qz-{record.id}-...",
            record.tenant,
            printable(record.name),
            _day(record.created),
            _state(record),
        )
    out.print(table)


@app.command()
def revoke(
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="Its id, or the key's first part: qz-<id>.")
    ],
    *,
    store: Address = "",
    namespace: Namespace = "qzoom",
) -> None:
    """Let nobody in with a key from now on; gateways know it within a second."""
    wanted = key_id.removeprefix("qz-").split("-")[0]
    record = with_store(store, namespace, lambda opened: opened.revoke_key(wanted, time.time()))
    err.print(f"key {record.id} of tenant {record.tenant} is revoked", highlight=False)


def _state(record: KeyRecord) -> str:
    if record.revoked is not None:
        return f"[red]revoked {_day(record.revoked)}[/]"
    if record.expires is None:
        return "[green]valid[/]"
    if not record.is_valid(time.time()):
        return f"[red]expired {_day(record.expires)}[/]"
    return f"[green]valid until {_day(record.expires)}[/]"


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
