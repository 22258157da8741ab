"""How do commands reach the store of the gateways? Directly, also while nothing is served."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from cli.console import Failure
from qzoom.store.base import Store, StoreUnavailable
from qzoom.store.opening import open_store

Address = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="QZOOM_GATEWAY_STORE",
        help="Address of the store: sqlite:///FILE, redis://HOST:PORT/0, "
        "redis+sentinel://HOST:PORT,.../NAME; this user's file on this machine if not given. "
        "Passwords are read from QZOOM_STORE_PASSWORD and QZOOM_STORE_SENTINEL_PASSWORD.",
        show_default=False,
    ),
]
Namespace = Annotated[
    str,
    typer.Option(
        envvar="QZOOM_GATEWAY_STORE_NAMESPACE", help="Keeps several systems in one Redis apart."
    ),
]

Result = TypeVar("Result")


def with_store(address: str, namespace: str, work: Callable[[Store], Awaitable[Result]]) -> Result:
    """Open the store, do some work, and close it.

    Raises:
        Failure: If the store does not answer.
        QZoomError: If the address means no store, or what the work raises.
    """

    async def run() -> Result:
        store = open_store(address, namespace)
        try:
            return await work(store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except StoreUnavailable as error:
        raise Failure(f"the store does not answer: {error.reason}", exit_code=1) from None
