"""What can be chosen when the application is built? The arguments of a Serve config file."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gateway.settings import GatewaySettings
from qzoom.settings import Device, DType, PresetName
from services.encoder.settings import EncoderSettings
from services.gate.settings import GateSettings
from services.llm.settings import LlmSettings
from services.rpn.settings import RpnSettings


class AppConfig(BaseModel):
    """One application: a model, where it runs, and what differs per service.

    What is said for all services here can be said again for one of them; what is said nowhere is
    read from the service's environment variables, then from its defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: Path
    """Folder of the checkpoint, on every node that runs a service."""

    model_name: str | None = None
    """Name under which clients ask for it; None takes the folder's."""

    base: Path | None = None
    """Folder of the base model that a pruned checkpoint is filled from."""

    preset: PresetName | None = None
    """Behaviour of a checkpoint that does not name its own."""

    device: Device = "cpu"
    """Where the services compute."""

    dtype: DType = "float32"
    """Element type of weights and states."""

    reuse: bool = True
    """Whether questions about one picture share what was computed about it."""

    constructor_tries: int = Field(default=3, ge=1)
    """How often a replica that cannot start is tried again before the deployment fails."""

    gateway: dict[str, Any] = Field(default_factory=dict)
    """Fields of `GatewaySettings`."""

    encoder: dict[str, Any] = Field(default_factory=dict)
    """Fields of `EncoderSettings`."""

    gate: dict[str, Any] = Field(default_factory=dict)
    """Fields of `GateSettings`."""

    rpn: dict[str, Any] = Field(default_factory=dict)
    """Fields of `RpnSettings`."""

    llm: dict[str, Any] = Field(default_factory=dict)
    """Fields of `LlmSettings`."""

    def gateway_settings(self) -> GatewaySettings:
        """Settings of the gateway."""
        name = self.model_name or self.model.resolve().name
        kept: dict[str, Any] = {} if self.reuse else {"reuse_mib": 0}
        return GatewaySettings(**{"model_name": name, **self.gateway, **kept})

    def encoder_settings(self) -> EncoderSettings:
        """Settings of the encoder service."""
        return EncoderSettings(**{**self._for_all(), **self.encoder, **self._kept()})

    def gate_settings(self) -> GateSettings:
        """Settings of the gate service."""
        return GateSettings(**{**self._for_all(), **self.gate, **self._kept()})

    def rpn_settings(self) -> RpnSettings:
        """Settings of the RPN service."""
        return RpnSettings(**{**self._for_all(), **self.rpn, **self._kept()})

    def llm_settings(self) -> LlmSettings:
        """Settings of the llm service."""
        return LlmSettings(**{**self._for_all(), **self.llm, **self._kept()})

    def _kept(self) -> dict[str, Any]:
        return {} if self.reuse else {"reuse_bytes": 0}

    def _for_all(self) -> dict[str, Any]:
        return {
            "checkpoint": self.model,
            "base": self.base,
            "preset": self.preset,
            "device": self.device,
            "dtype": self.dtype,
        }
