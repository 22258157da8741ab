"""`qzoom trace`: where did the time of a request go?"""

import json
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from cli import client
from cli.console import Failure, out
from cli.waterfall import Waterfall, recent_table


def trace(
    trace_id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="Trace or request id; the newest if not given."),
    ] = None,
    url: Annotated[str, typer.Option(help="Address of the server.")] = client.DEFAULT_URL,
    list_recent: Annotated[bool, typer.Option("--list", help="List recent requests.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Draw the waterfall of a recent request of a running server."""
    if list_recent:
        recent = _recent(url)
        _show(recent, as_json, recent_table(recent))
        return
    if trace_id is None:
        recent = _recent(url)
        if not recent:
            raise Failure("the server has no recent requests yet", exit_code=1)
        trace_id = str(recent[0]["trace_id"])
    record = client.get(url, f"/v1/traces/{trace_id}")
    _show(record, as_json, Waterfall(record))


def _recent(url: str) -> list[dict[str, Any]]:
    recent = client.get(url, "/v1/traces")["data"]
    assert isinstance(recent, list)
    return recent


def _show(document: object, as_json: bool, drawing: RenderableType) -> None:
    if as_json:
        out.print_json(json.dumps(document))
    else:
        out.print(drawing)
