"""`python -m cli` is the `qzoom` command."""

from cli.main import app

app(prog_name="qzoom")
