"""`qzoom ask`: one question about one picture, here or on a server."""

import json
from dataclasses import asdict
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image, UnidentifiedImageError

from cli import client
from cli.answer import Answered, describe, from_answer
from cli.console import Failure, err, out, printable
from qzoom.builtin import builtin_model
from qzoom.overlay import draw_overlay
from qzoom.rgb import to_rgb, upright


class RouteName(StrEnum):
    """Routes that may be asked for."""

    AUTO = "auto"
    DIRECT = "direct"
    ZOOM = "zoom"


def ask(
    image: Annotated[Path, typer.Argument(help="The picture's file.")],
    question: Annotated[str, typer.Argument(help="What to ask about it.")],
    url: Annotated[
        str | None, typer.Option(help="Ask this server; without it, the model runs here.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint folder to run here; the built-in if not given.")
    ] = None,
    route: Annotated[
        RouteName, typer.Option(help="Let the gate decide, or choose.")
    ] = RouteName.AUTO,
    tau_gate: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Zoom from this p(refine) on.")
    ] = None,
    max_visual_tokens: Annotated[
        int | None, typer.Option(min=4, help="Visual tokens that the coarse picture may cost.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of the answer.")] = 64,
    save: Annotated[
        Path | None, typer.Option(help="Write a picture of heat map and box to this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for a server.")] = 120.0,
) -> None:
    """Ask QUESTION about IMAGE; print the answer, its route and the time of every stage."""
    if url is not None and model is not None:
        raise Failure("--url and --model exclude each other: a server has its own model")
    data, picture = _read(image)
    options: dict[str, Any] = {
        "route": route.value,
        "tau_gate": tau_gate,
        "max_visual_tokens": max_visual_tokens,
        "explain": save is not None,
    }
    options = {name: value for name, value in options.items() if value is not None}
    if url is not None:
        answered = from_answer(
            client.ask_server(url, data, question, options, max_tokens, timeout_s=timeout)
        )
    else:
        answered = _ask_here(model or builtin_model(), picture, question, options, max_tokens)
    _show(answered, as_json)
    if save is not None:
        _save(draw_overlay(picture, answered.look(question)), save)


def _read(path: Path) -> tuple[bytes, Image.Image]:
    """Read a file, and its picture as the gateway sees it: upright, RGB."""
    try:
        data = path.read_bytes()
        with Image.open(BytesIO(data)) as opened:
            return data, to_rgb(upright(opened))
    except (UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Failure(f"{path} is no picture that can be read") from None
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror or error}") from None


def _ask_here(
    model: Path, picture: Image.Image, question: str, options: dict[str, Any], max_tokens: int
) -> Answered:
    import numpy as np

    from cli.inprocess import ask_pipeline

    with err.status(f"loading {model}"):
        return ask_pipeline(model, np.asarray(picture), question, options, max_tokens)


def _show(answered: Answered, as_json: bool) -> None:
    if as_json:
        document = asdict(answered)
        document["heatmap"] = None if answered.heatmap is None else answered.heatmap.tolist()
        out.print_json(json.dumps(document))
        return
    out.print(printable(answered.text), style="bold", markup=False, highlight=False)
    out.print(describe(answered), highlight=False)


def _save(drawing: Image.Image, path: Path) -> None:
    try:
        drawing.save(path)
    except (OSError, ValueError) as error:
        raise Failure(f"{path} cannot be written: {error}") from None
    err.print(f"wrote {path}")
