"""The `qzoom` command. Commands import what they need when they run, so help is always fast."""

import typer

from cli import (
    ask,
    bench,
    calibrate,
    convert,
    data,
    demo,
    deploy,
    doctor,
    evaluate,
    keys,
    label,
    serve,
    settings,
    trace,
    train,
    verify,
    version,
)
from cli.console import CommandGroup

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Query-aware adaptive perception for multimodal LLMs, as a service.",
    epilog="Start with [bold]qzoom doctor[/], then [bold]qzoom demo[/].",
)
app.command()(serve.serve)
app.command()(ask.ask)
app.command()(demo.demo)
app.command()(trace.trace)
app.command()(doctor.doctor)
app.add_typer(evaluate.app, name="evaluate")
app.command()(calibrate.calibrate)
app.command()(convert.convert)
app.command()(verify.verify)
app.command()(version.version)
app.add_typer(keys.app, name="keys")
app.add_typer(settings.app, name="settings")
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
app.add_typer(label.app, name="label")
app.add_typer(train.app, name="train")
app.add_typer(deploy.app, name="deploy")
