"""Settings of the gateway; every field is also a variable QZOOM_GATEWAY_*."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from gateway.access.options import AccessOptions


class GatewaySettings(AccessOptions):
    """What the operator may choose for the gateway."""

    model_config = SettingsConfigDict(env_prefix="QZOOM_GATEWAY_", protected_namespaces=())

    model_name: str = Field(min_length=1, max_length=200)
    """Name under which clients ask for the model."""

    local_clients_only: bool = False
    """Refuse gRPC clients of other machines; Serve's gRPC proxy listens on every interface."""

    replicas: int = Field(1, ge=1, le=256)
    """Gateways that share the requests."""

    cpus: float = Field(0.0, ge=0.0)
    """Logical CPUs that Ray reserves for a gateway; 0 reserves none."""

    max_ongoing_requests: int = Field(512, ge=1)
    """Most requests that one gateway works on; more wait in Serve's proxy."""

    max_traces: int = Field(256, ge=1)
    """Recent requests whose waterfalls are kept."""

    decode_threads: int = Field(2, ge=1, le=64)
    """Pictures that are decoded at the same time."""
