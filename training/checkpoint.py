"""Training state on disk: written whole or not at all, read back exactly."""

import os
from pathlib import Path
from typing import Any

import torch

STATE_FILE = "state.pt"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Replace the state atomically; a kill leaves the former one."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / (STATE_FILE + ".part")
    torch.save(state, temporary)
    os.replace(temporary, folder / STATE_FILE)


def load_state(folder: Path) -> dict[str, Any] | None:
    """The last state, or None where there is none."""
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
