"""`qzoom deploy size`: what to order for a load, from what the running system has measured."""

from typing import Annotated

import typer
from rich.table import Table

from cli import client
from cli.console import Failure, out


def size(
    rate: Annotated[float, typer.Option(min=0.001, help="Requests per second to be answered.")],
    url: Annotated[str, typer.Option(help="Address of a running system.")] = client.DEFAULT_URL,
    busy: Annotated[
        float, typer.Option(min=0.05, max=1.0, help="Share of the time a replica is to be busy.")
    ] = 0.7,
) -> None:
    """Replicas of each stage for a load, from the times that a running system has measured."""
    import httpx

    from deploy.sizing import DEPLOYMENT_OF, read_uses, replicas_for

    try:
        answer = httpx.get(f"{url.rstrip('/')}/metrics", timeout=10.0).raise_for_status()
        uses = read_uses(answer.text)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Failure(f"no metrics from {url}: {error}", 1) from error
    except ValueError as error:
        raise Failure(str(error), 1) from error
    wanted = replicas_for(uses, rate, busy)
    table = Table("stage", "calls a request", "ms a call", "calls a batch", "replicas", box=None)
    for use in uses:
        own = replicas_for([use], rate, busy)[DEPLOYMENT_OF[use.stage]]
        table.add_row(
            use.stage.value, f"{use.calls:.2f}", f"{use.seconds * 1e3:.1f}", f"{use.batch:.1f}",
            str(own),
        )  # fmt: skip
    out.print(table)
    out.print("Together, as values of the chart; batches grow under load, so it is the most:")
    out.print("stages:", highlight=False)
    for name, count in wanted.items():
        out.print(f"  {name}: {{replicas: {{max: {count}}}}}", highlight=False)
