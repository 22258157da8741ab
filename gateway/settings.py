"""Settings of the gateway; every field is also a variable QZOOM_GATEWAY_*."""

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from gateway.access.options import AccessOptions
from gateway.admission.bounds import MIB, AdmissionBounds
from gateway.admission.brownout import BrownoutBounds
from gateway.fetch.fetcher import FetchLimits
from gateway.fetch.policy import OFF, FetchPolicy
from gateway.limit_settings import LimitSettings

_FETCH = FetchLimits()

MAX_BY_VALUE_KIB = 1024
"""A message of Serve's may have 4 MiB; text may have three times the tokens that are predicted."""


class GatewaySettings(LimitSettings, AccessOptions):
    """What the operator may choose for the gateway."""

    model_config = SettingsConfigDict(env_prefix="QZOOM_GATEWAY_", protected_namespaces=())

    model_name: str = Field(min_length=1, max_length=200)
    """Name under which clients ask for the model."""

    local_clients_only: bool = False
    """Refuse gRPC clients of other machines; Serve's gRPC proxy listens on every interface."""

    own_host: str = "127.0.0.1"
    """Address on which gateways listen by themselves; see `own_port`."""

    own_port: int = Field(0, ge=0, le=65_535)
    """HTTP port that all gateways of a machine open beside Serve's proxy, whose hop is spared to
    those who ask there; 0 opens none. Not run on a real Serve so far."""

    replicas: int = Field(1, ge=1, le=256)
    """Gateways that share the requests."""

    cpus: float = Field(0.0, ge=0.0)
    """Logical CPUs that Ray reserves for a gateway; 0 reserves none."""

    max_ongoing_requests: int = Field(512, ge=1)
    """Most requests that one gateway holds, in work and waiting; more wait in Serve's proxy."""

    admit_requests: int = Field(0, ge=0)
    """Most requests in work at once, over all gateways; more wait, see `admit_waiting`. 0 takes
    what the llm's replicas can decode at once, on CPUs three per core at most."""

    admit_visual_tokens: int = Field(65_536, ge=1)
    """Most predicted visual tokens in work at once, over all gateways."""

    admit_kv_mib: int = Field(16_384, ge=1)
    """Most predicted KV cache of what is in work, in MiB, over all gateways."""

    admit_store_mib: int = Field(640, ge=1)
    """Most of the object store that what is in work is predicted to take, in MiB."""

    admit_waiting: int | None = Field(None, ge=0)
    """Most requests that wait to be admitted, over all gateways; more are refused with 429. None
    takes half of those in work, so that waiting costs half of the time in work at most."""

    admit_tenant_share: float = Field(1.0, gt=0, le=1)
    """Part of each of these bounds on work that one tenant may have."""

    brownout_steps: int = Field(4, ge=0, le=100)
    """Steps in which cost is shed as load rises; 0 switches brown-out off."""

    brownout_starts_at: float = Field(0.7, gt=0, lt=1)
    """Share of the work that may be in hand at which the first step is taken."""

    brownout_max_tau_gate: float | None = Field(None, ge=0, le=1)
    """Threshold of the gate at the last step. None takes the largest that costs at most
    `brownout_max_loss` by the model's calibration, 0.9 where it has none."""

    brownout_max_loss: float = Field(0.02, ge=0, le=1)
    """Accuracy on the calibration's validation split that raising the threshold may cost."""

    brownout_min_roi_share: float = Field(0.5, gt=0, le=1)
    """Budget of the RoI at the last step, over the usual one."""

    stage_timeout_s: float = Field(60.0, gt=0)
    """Longest wait for a stage, or for the next token, before the request is run again."""

    by_value_kib: int = Field(0, ge=0, le=MAX_BY_VALUE_KIB)
    """State of a request that is predicted to take at most so much, pixels included, travels inside
    the messages to and from the stages; larger state lies in the object store and travels by
    reference. Off by default: not run on a real Serve so far."""

    speculate: bool = False
    """Ask the RPN on `auto` without waiting for the gate, and drop its proposal where the gate is
    closed: the gate's own layers cost the zoom route no time, and every direct answer costs the
    work of the RPN. Not done while brown-out sheds cost."""

    reuse_mib: int = Field(0, ge=0)
    """Most of the object store that one gateway keeps of pictures between requests, in MiB, beside
    `admit_store_mib`; 0 keeps nothing. Off by default: that the store stays flat with it was not
    measured on a cluster."""

    max_traces: int = Field(256, ge=1)
    """Recent requests whose waterfalls are kept."""

    decode_processes: int = Field(2, ge=1, le=64)
    """Pictures that are decoded at the same time, each in a process of its own."""

    remote_images: str = OFF
    """Where pictures are fetched from: `off`, `public` for the whole internet, or hosts with commas
    between them (`images.example.com, *.example.org, files.example.net:8443`)."""

    remote_images_http: bool = False
    """Whether http URLs are fetched beside https ones."""

    fetch_timeout_s: float = Field(_FETCH.timeout_s, gt=0, le=600)
    """Longest time for the remote pictures of a request, names and redirects included."""

    max_fetches: int = Field(_FETCH.max_running, ge=1, le=4096)
    """Remote pictures that one gateway fetches at the same time, of `max_image_bytes` each."""

    def admission_bounds(self) -> AdmissionBounds:
        """What may be in work and wait, and what is shed before."""
        assert self.admit_requests, "filled in where the application is built"
        waiting = self.admit_waiting
        return AdmissionBounds(
            requests=self.admit_requests,
            visual_tokens=self.admit_visual_tokens,
            kv_bytes=self.admit_kv_mib * MIB,
            store_bytes=self.admit_store_mib * MIB,
            tenant_share=self.admit_tenant_share,
            max_waiting=max(1, self.admit_requests // 2) if waiting is None else waiting,
            brownout=BrownoutBounds(
                steps=self.brownout_steps,
                starts_at=self.brownout_starts_at,
                max_tau_gate=self.brownout_max_tau_gate,
                max_loss=self.brownout_max_loss,
                min_roi_share=self.brownout_min_roi_share,
            ),
        )

    @field_validator("remote_images")
    @classmethod
    def _is_policy(cls, text: str) -> str:
        FetchPolicy.parse(text)
        return text

    def fetch_policy(self) -> FetchPolicy:
        """What may be fetched."""
        return FetchPolicy.parse(self.remote_images, allow_http=self.remote_images_http)

    def fetch_limits(self) -> FetchLimits:
        """What fetching may cost."""
        return FetchLimits(timeout_s=self.fetch_timeout_s, max_running=self.max_fetches)
