"""Where is the model that comes with the package?"""

from pathlib import Path

from qzoom.errors import NotFound

BUILTIN_NAME = "builtin"
"""How clients name the built-in model."""


def builtin_model() -> Path:
    """Find the folder of the built-in model.

    Raises:
        NotFound: If this installation came without it.
    """
    folder = Path(__file__).parent / "assets" / BUILTIN_NAME
    if not (folder / "config.json").is_file():
        raise NotFound(f"this installation has no built-in model; {folder} is missing")
    return folder
