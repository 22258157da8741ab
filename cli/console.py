"""How does the command line speak? Results on standard output, everything else beside it.

A failure that the user can mend is one line and exit code 2; other failures end with 1.
"""

from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from qzoom.errors import QZoomError

if TYPE_CHECKING:
    from typer._click.core import Context

USAGE_ERROR = 2

out = Console()
"""Results."""

err = Console(stderr=True)
"""Progress and complaints."""

_EXTRAS = {
    "torch": "model",
    "transformers": "model",
    "safetensors": "model",
    "ray": "gateway",
    "fastapi": "gateway",
    "redis": "gateway",
    "font_roboto": "train",
    "faker": "train",
    "yaml": "train",
    "matplotlib": "train",
    "pyarrow": "evaluate",
}
"""Which extra of the package brings a module that may be absent."""


class Failure(Exception):
    """Ends the command with one line.

    Args:
        message: What is wrong, and what to do.
        exit_code: 2 where the user can mend it by another command line or an installation, else 1.
    """

    def __init__(self, message: str, exit_code: int = USAGE_ERROR) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class CommandGroup(TyperGroup):
    """The root command: turns known failures into one line instead of a traceback."""

    def invoke(self, ctx: "Context") -> object:
        """Run the chosen command.

        Raises:
            typer.Exit: With the exit code of the failure.
        """
        try:
            return super().invoke(ctx)
        except Failure as error:
            _complain(error.message, error.exit_code)
        except QZoomError as error:
            _complain(error.message, USAGE_ERROR if error.http_status < 500 else 1)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _EXTRAS:
                raise
            _complain(
                f"this command needs {package}: pip install 'qzoom[{_EXTRAS[package]}]'",
                USAGE_ERROR,
            )


def printable(text: str) -> str:
    """Replace control characters, so that no answer can steer the terminal."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _complain(message: str, exit_code: int) -> NoReturn:
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
    raise typer.Exit(exit_code)
