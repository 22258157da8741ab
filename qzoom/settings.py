"""What may an operator change without a new image? The base of every settings class.

Settings are read once where the application is built, then passed down; nothing imports them as
a global. Facts about the model come from its checkpoint, never from a variable.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024

Device = Literal["cpu", "cuda"]
DType = Literal["float32", "bfloat16", "float16"]
PresetName = Literal["paper", "released"]


class ServiceSettings(BaseSettings):
    """Typed and frozen; given by the application's configuration, else by `<prefix>*` variables.

    Raises:
        pydantic.ValidationError: If a value has the wrong type or range.
        ValueError: If a variable has our prefix but names no field, which is a typo.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    def model_post_init(self, _context: object, /) -> None:
        """Refuse misspelt variables; pydantic-settings itself ignores them."""
        prefix = self.model_config.get("env_prefix", "")
        known = {prefix + name.upper() for name in type(self).model_fields}
        unknown = {name for name in os.environ if prefix and name.startswith(prefix)} - known
        if unknown:
            raise ValueError(f"unknown environment variables: {', '.join(sorted(unknown))}")


class StageSettings(ServiceSettings):
    """What the four services that hold a part of the model have in common."""

    checkpoint: Path
    """Folder of the checkpoint; each service reads only its own tensors."""

    base: Path | None = None
    """Folder of the base model that a pruned checkpoint is filled from."""

    preset: PresetName | None = None
    """Behaviour of a checkpoint that does not name its own; None leaves it to the checkpoint."""

    device: Device = "cpu"
    """Where the tensors live."""

    dtype: DType = "float32"
    """Element type of weights and states."""

    threads: int = Field(0, ge=0, le=256)
    """Threads of a computation on the CPU; 0 takes all cores."""

    replicas: int = Field(1, ge=1, le=256)
    """Processes that share the work."""

    cpus: float = Field(0.0, ge=0.0)
    """Logical CPUs that Ray reserves for a replica; 0 reserves none."""

    gpus: float = Field(0.0, ge=0.0)
    """Logical GPUs that Ray reserves for a replica."""

    max_compute_s: float = Field(120.0, gt=0)
    """A computation that takes longer hangs, and its replica is replaced."""

    max_waiting: int = Field(256, ge=1)
    """Most requests that wait for a batch; more are refused as overload."""

    reuse_bytes: int = Field(256 * MIB, ge=0)
    """Most memory for what later questions about a picture reuse; 0 computes everything anew."""
