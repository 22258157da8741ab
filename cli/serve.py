"""`qzoom serve`: the whole system on this machine, until Ctrl-C."""

import signal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import Failure, out
from cli.dtypes import DTypeName
from cli.system import running_system, service_table
from qzoom.builtin import builtin_model

if TYPE_CHECKING:
    from deploy.config import AppConfig


class DeviceName(StrEnum):
    """Where the services compute."""

    CPU = "cpu"
    CUDA = "cuda"


class AuthName(StrEnum):
    """Whether callers must say who they are."""

    OFF = "off"
    REQUIRED = "required"


def serve(
    *,
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint folder; the built-in model if not given.")
    ] = None,
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = DeviceName.CPU,
    dtype: Annotated[
        DTypeName | None,
        typer.Option(help="Element type; float32 on the CPU, bfloat16 on CUDA if not given."),
    ] = None,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in, over gRPC too."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="HTTP port.")] = 8000,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535, help="gRPC port.")] = 9000,
    gateways: Annotated[
        int, typer.Option(min=1, max=16, help="Gateways that share the requests.")
    ] = 1,
    auth: Annotated[
        AuthName | None,
        typer.Option(
            envvar="QZOOM_GATEWAY_AUTH",
            help="required: callers need a key of `qzoom keys create`, or a token of the issuer in "
            "QZOOM_GATEWAY_OIDC_ISSUER; off if not given.",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="QZOOM_GATEWAY_STORE",
            help="Where gateways keep keys, settings and quotas: sqlite:///FILE, "
            "redis://HOST:PORT/0 or redis+sentinel://HOST:PORT,.../NAME; this user's file if not "
            "given.",
        ),
    ] = None,
    remote_images: Annotated[
        str | None,
        typer.Option(
            metavar="off|public|HOST,...",
            help="Fetch pictures behind https URLs: from these hosts ('*.example.org' takes those "
            "below), or from the whole public internet. Off if not given.",
        ),
    ] = None,
    remote_images_http: Annotated[
        bool, typer.Option("--remote-images-http", help="Fetch http URLs too.")
    ] = False,
    start_timeout: Annotated[
        float,
        typer.Option(min=1, max=86_400, help="Seconds until it must be ready; large models load."),
    ] = 600.0,
) -> None:
    """Serve a model on this machine: gateway, encoder, gate, RPN and llm, until Ctrl-C."""
    from deploy.config import AppConfig
    from deploy.local import LocalConfig
    from qzoom.store.opening import default_path

    if device is DeviceName.CUDA:
        _check_cuda()
    if dtype is None:
        dtype = DTypeName.BFLOAT16 if device is DeviceName.CUDA else DTypeName.FLOAT32
    gateway: dict[str, Any] = {
        "replicas": gateways,
        "auth": auth and auth.value,
        "store": store or f"sqlite://{default_path()}",
        "remote_images": remote_images,
        "remote_images_http": remote_images_http or None,
    }
    app = AppConfig(
        model=model or builtin_model(),
        device=device.value,
        dtype=dtype.value,
        gateway={name: value for name, value in gateway.items() if value is not None},
    )
    _check_gateway(app)
    try:
        with running_system(
            LocalConfig(
                app=app,
                host=host,
                port=port,
                grpc_port=grpc_port,
                start_timeout_s=start_timeout,
            )
        ) as system:
            out.print(service_table(system.services))
            out.print(
                f"\n[bold green]{system.model} is served[/]\n"
                f"  page     {system.url}/  (a playground; /dashboard has the figures)\n"
                f"  REST     {system.url}/v1/chat/completions\n"
                f"  gRPC     {system.grpc_address}  (qzoom.v1.QZoom, with reflection)\n"
                f"  metrics  {system.url}/metrics\n"
                f"  ready    {system.url}/readyz\n"
                f"  keys     {_about_keys(gateway)}\n\n"
                f"  qzoom ask IMAGE QUESTION --url {system.url}\n"
                f"  qzoom trace --url {system.url}\n\n"
                "Ctrl-C stops it.",
                highlight=False,
            )
            signal.pause()
    except KeyboardInterrupt:
        out.print("stopped")


def _check_gateway(app: "AppConfig") -> None:
    """Say in one line what is wrong with the gateway's settings, before anything starts."""
    from pydantic import ValidationError

    try:
        app.gateway_settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise Failure(f"{where}: {reason}" if where else reason) from None
    except ValueError as error:
        raise Failure(str(error)) from None


def _about_keys(gateway: dict[str, Any]) -> str:
    if gateway["auth"] == AuthName.REQUIRED.value:
        return f"required; `qzoom keys create` makes one, in {gateway['store']}"
    return "not asked for; --auth required asks"


def _check_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise Failure(f"--device cuda: PyTorch {torch.__version__} sees no CUDA device here")
