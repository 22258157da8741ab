"""`qzoom version`: what is installed here?"""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from cli.console import out
from qzoom.version import VERSION

_SHOWN = ("torch", "transformers", "ray")


def version() -> None:
    """Print the versions of Q-Zoom Serve and of what it stands on."""
    out.print(f"qzoom {VERSION}", highlight=False)
    out.print(f"python {platform.python_version()}", highlight=False)
    for package in _SHOWN:
        try:
            out.print(f"{package} {installed_version(package)}", highlight=False)
        except PackageNotFoundError:
            out.print(f"{package} (not installed)", highlight=False)
