"""What may telemetry be called? Every span, attribute, metric and log event, with its meaning.

Traces, metrics and logs take their names from here, and a test compares this list with what a
running system emits. Metrics carry seconds, as Prometheus asks for; attributes that people read
in a trace carry milliseconds and say so in their name.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Self


class _Name(StrEnum):
    """A name as it is exported, with its meaning beside it."""

    meaning: str

    def __new__(cls, name: str, meaning: str = "") -> Self:
        """Make a member that equals its exported name."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.meaning = meaning
        return member


class Span(_Name):
    """Spans. The stages are children of `gateway.request`; each has one queue and one compute."""

    REQUEST = "gateway.request", "One request, from its first byte to its last token"
    ADMISSION_WAIT = (
        "admission.wait",
        "The request waits for its turn, before its pictures are decoded",
    )
    IMAGE_FETCH = "image.fetch", "The remote pictures of a request arrive, in the gateway"
    IMAGE_DECODE = "image.decode", "A picture's bytes become pixels, in the gateway"
    ENCODER_COARSE = "encoder.coarse", "The whole picture becomes visual tokens"
    GATE_PREFILL = "gate.prefill", "Layers 1..B and the gate, over the coarse prompt"
    GATE_DECIDE = "gate.decide", "The gateway compares p(refine) with tau and takes a route"
    RPN_PROPOSE = "rpn.propose", "The states after layer B become a heat map and a box"
    ENCODER_ROI = "encoder.roi", "The crop of the source picture becomes visual tokens"
    LLM_RESUME = "llm.resume", "The prefill is finished above layer B; ends with the first token"
    LLM_DECODE = "llm.decode", "The remaining tokens are drawn"
    QUEUE = "stage.queue", "From the arrival at a replica to the start of the batch"
    COMPUTE = "stage.compute", "The batch itself"


STAGES = (
    Span.ENCODER_COARSE,
    Span.GATE_PREFILL,
    Span.RPN_PROPOSE,
    Span.ENCODER_ROI,
    Span.LLM_RESUME,
    Span.LLM_DECODE,
)
"""The spans of stage calls in the order of the zoom route; the label `stage` of metrics."""


class Attribute(_Name):
    """Attributes of spans and fields of log lines."""

    REQUEST_ID = "qzoom.request_id", "Our id of the request, as answered to the client"
    OUTCOME = "qzoom.outcome", "`ok`, or the code of the error that the client got"
    ROUTE = "qzoom.route", "`direct` or `zoom`: the route that was taken"
    P_REFINE = "qzoom.p_refine", "The gate's probability that the coarse picture does not suffice"
    TAU_GATE = "qzoom.tau_gate", "The threshold on p(refine) that was used"
    TAU_ROI = "qzoom.tau_roi", "The threshold on the heat map that was used"
    BOX = "qzoom.box", "x0, y0, x1, y1 of the RoI in pixels of the source picture"
    BOX_SCORE = "qzoom.box_score", "Highest value of the heat map inside the box"
    IMAGE = "qzoom.image", "Index of a picture in the request"
    IMAGE_SIZE = "qzoom.image_size", "Width and height of the source picture in pixels"
    TOKENS_COARSE = "qzoom.tokens.coarse", "Visual tokens of the coarse pictures"
    TOKENS_ROI = "qzoom.tokens.roi", "Visual tokens of the RoI crop"
    TOKENS_SPARED = "qzoom.tokens.spared", "Visual tokens spared against full resolution"
    QUEUE_MS = "qzoom.queue_ms", "Milliseconds from the arrival at a replica to its batch"
    COMPUTE_MS = "qzoom.compute_ms", "Milliseconds that the batch took"
    BATCH_SIZE = "qzoom.batch_size", "Requests that shared the batch"
    CACHE_HIT = "qzoom.cache.hit", "Whether the stage was spared work that was done before"
    CACHE_REUSED = "qzoom.cache.reused_tokens", "Tokens whose state or encoding was there"
    DEGRADED = "qzoom.degraded", "Why a coarse answer was given where a zoom was meant"
    BROWNOUT = "qzoom.brownout", "Level of brown-out when the request was admitted"
    RERUNS = "qzoom.reruns", "How often the stages were run again because their state was lost"
    TENANT = "qzoom.tenant", "Whose request it is"
    REPLAYED = "qzoom.replayed", "Whether the answer was given before, to the same Idempotency-Key"
    STORE_REASON = "qzoom.store_reason", "Why the store of the gateways does not answer"
    STAGE = "qzoom.stage", "Name of the stage, in log lines of services"
    DURATION_MS = "qzoom.duration_ms", "Milliseconds of the whole call, in log lines"
    ERROR_TYPE = "error.type", "Code of the error (OpenTelemetry)"
    GEN_AI_OPERATION = "gen_ai.operation.name", "Always `chat` (OpenTelemetry)"
    GEN_AI_MODEL = "gen_ai.request.model", "Name of the model that was asked (OpenTelemetry)"
    GEN_AI_MAX_TOKENS = "gen_ai.request.max_tokens", "Most tokens to draw (OpenTelemetry)"
    GEN_AI_INPUT_TOKENS = "gen_ai.usage.input_tokens", "Prompt tokens (OpenTelemetry)"
    GEN_AI_OUTPUT_TOKENS = "gen_ai.usage.output_tokens", "Drawn tokens (OpenTelemetry)"
    GEN_AI_FINISH_REASONS = "gen_ai.response.finish_reasons", "Why it ended (OpenTelemetry)"


class Event(_Name):
    """Log events: at INFO one line per request and service; warnings where a person may look."""

    REQUEST_DONE = "gateway.request.done", "A request was answered, refused or cancelled"
    REQUEST_DEGRADED = "gateway.request.degraded", "Zooming failed; the coarse answer was given"
    REQUEST_RERUN = "gateway.request.rerun", "State was lost; the stages run again"
    STAGE_DONE = "stage.done", "A replica finished its part of a request"
    SERVICE_READY = "service.ready", "A replica has loaded its part of the model"
    STORE_LOST = "store.lost", "The store does not answer; quotas are each gateway's own"
    STORE_BACK = "store.back", "The store answers again"
    INTERNAL_ERROR = "internal.error", "A defect of ours; the exception is in the line"


class Kind(Enum):
    """How samples of a metric are read and added up."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


LATENCY_BUCKETS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Shared by every latency, so that stages can be added and compared: 1 ms to 1 minute."""

SCORE_BUCKETS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Finer towards both ends, where a drift of the gate shows first."""

BATCH_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: Name as it is exposed, unit included (`_seconds`, `_total` for counters).
        kind: Counter, histogram or gauge.
        meaning: Help text.
        labels: Label names; their values come from small fixed sets.
        buckets: Upper bounds of a histogram, without infinity.
        is_shared: A gauge that all gateways see alike, so that it is not added up over them.
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    is_shared: bool = False


def _seconds(name: str, meaning: str, *labels: str) -> MetricSpec:
    return MetricSpec(name, Kind.HISTOGRAM, meaning, labels, LATENCY_BUCKETS_S)


class Metric(Enum):
    """Metrics, counted in the gateways from the replies of the stages."""

    STAGE_QUEUE = _seconds(
        "qzoom_stage_queue_seconds", "From arrival at a replica to its batch, per call", "stage"
    )
    STAGE_COMPUTE = _seconds(
        "qzoom_stage_compute_seconds", "Duration of the batch that a call was in", "stage"
    )
    STAGE_TRANSFER = _seconds(
        "qzoom_stage_transfer_seconds",
        "The rest of a call as the gateway sees it: routing, network, serialisation",
        "stage",
    )
    STAGE_ERRORS = MetricSpec(
        "qzoom_stage_errors_total", Kind.COUNTER, "Failed stage calls", ("stage", "code")
    )
    BATCH_SIZE = MetricSpec(
        "qzoom_stage_batch_size",
        Kind.HISTOGRAM,
        "Requests that shared a batch, per call",
        ("stage",),
        BATCH_BUCKETS,
    )
    CACHE_LOOKUPS = MetricSpec(
        "qzoom_cache_lookups_total",
        Kind.COUNTER,
        "Stage calls that could reuse something: `hit` if they did, else `miss`",
        ("stage", "result"),
    )
    CACHE_TOKENS = MetricSpec(
        "qzoom_cache_tokens_total",
        Kind.COUNTER,
        "Tokens that a cache could have spared: `reused` ones, and `computed` ones",
        ("stage", "kind"),
    )
    CACHE_BYTES = MetricSpec(
        "qzoom_cache_bytes",
        Kind.GAUGE,
        "What the cache of the stage's replica held at the last reply; `gateway` is its own",
        ("stage",),
        is_shared=True,
    )
    STATE_REFERENCES = MetricSpec(
        "qzoom_state_references",
        Kind.GAUGE,
        "Pictures, visual tokens and states that requests in flight hold in the object store",
    )
    KV_BYTES = MetricSpec(
        "qzoom_kv_bytes", Kind.GAUGE, "KV cache that the admitted requests need, as predicted"
    )
    REQUESTS = MetricSpec(
        "qzoom_requests_total",
        Kind.COUNTER,
        "Finished requests by route (`none` before a decision) and outcome",
        ("route", "outcome"),
    )
    REQUEST_SECONDS = _seconds(
        "qzoom_request_seconds", "From the first byte to the last token, answered ones", "route"
    )
    TTFT = _seconds(
        "qzoom_time_to_first_token_seconds", "From the first byte to the first token", "route"
    )
    TPOT = _seconds(
        "qzoom_time_per_output_token_seconds",
        "Time between two tokens of one answer, averaged over the answer",
        "route",
    )
    IN_FLIGHT = MetricSpec(
        "qzoom_requests_in_flight", Kind.GAUGE, "Requests being worked on, over all gateways"
    )
    ADMISSIONS = MetricSpec(
        "qzoom_admissions_total",
        Kind.COUNTER,
        "Requests at the door: `admitted`, `cancelled` in the queue, or the reason of a refusal",
        ("outcome",),
    )
    ADMISSION_WAIT = MetricSpec(
        "qzoom_admission_wait_seconds",
        Kind.HISTOGRAM,
        "From the arrival at the door to leave to work, admitted ones",
        (),
        LATENCY_BUCKETS_S,
    )
    ADMISSION_WAITING = MetricSpec(
        "qzoom_admission_waiting", Kind.GAUGE, "Requests that wait for leave to work"
    )
    BROWNOUT_LEVEL = MetricSpec(
        "qzoom_brownout_level",
        Kind.GAUGE,
        "Steps by which tau_gate is raised and the budget of the RoI lowered; 0 changes nothing",
        is_shared=True,
    )
    VISUAL_TOKENS = MetricSpec(
        "qzoom_visual_tokens_total",
        Kind.COUNTER,
        "Visual tokens: `coarse` and `roi` were computed; `spared` full resolution would add",
        ("kind",),
    )
    TEXT_TOKENS = MetricSpec(
        "qzoom_tokens_total",
        Kind.COUNTER,
        "Tokens: `prompt` ones (visual included) and drawn `output` ones",
        ("kind",),
    )
    GATE_SCORE = MetricSpec(
        "qzoom_gate_score", Kind.HISTOGRAM, "p(refine) of scored requests", (), SCORE_BUCKETS
    )
    GATE_DECISIONS = MetricSpec(
        "qzoom_gate_decisions_total",
        Kind.COUNTER,
        "Decisions of the gate: `open` asks the RPN, `closed` answers from the coarse picture",
        ("decision",),
    )
    DEGRADED = MetricSpec(
        "qzoom_degraded_total",
        Kind.COUNTER,
        "Coarse answers given because a stage of the zoom branch failed or was late",
        ("stage",),
    )
    RERUNS = MetricSpec(
        "qzoom_reruns_total", Kind.COUNTER, "Requests run again because their state was lost"
    )
    TENANT_REQUESTS = MetricSpec(
        "qzoom_tenant_requests_total",
        Kind.COUNTER,
        "Finished requests by tenant and outcome; `other` for tenants beyond the first 50",
        ("tenant", "outcome"),
    )
    TENANT_TOKENS = MetricSpec(
        "qzoom_tenant_tokens_total",
        Kind.COUNTER,
        "Tokens that count for a tenant: `visual` and `generated`",
        ("tenant", "kind"),
    )
    QUOTA_REFUSALS = MetricSpec(
        "qzoom_quota_refusals_total",
        Kind.COUNTER,
        "Requests refused because a limit of the tenant was reached, by the limit",
        ("tenant", "limit"),
    )
    AUTH_FAILURES = MetricSpec(
        "qzoom_auth_failures_total", Kind.COUNTER, "Calls without a valid key or token"
    )
    REPLAYS = MetricSpec(
        "qzoom_idempotency_total",
        Kind.COUNTER,
        "Requests with an Idempotency-Key: `stored`, `replayed`, `in_use`, `reused`, `too_large`",
        ("outcome",),
    )
    STORE_SECONDS = _seconds(
        "qzoom_store_seconds", "How long requests waited for the store of the gateways", "operation"
    )
    STORE_DEGRADED = MetricSpec(
        "qzoom_store_degraded",
        Kind.GAUGE,
        "Gateways whose store does not answer: their quotas are their own",
    )
    STORE_LOSSES = MetricSpec(
        "qzoom_store_losses_total", Kind.COUNTER, "How often gateways have lost their store"
    )
    BUILD_INFO = MetricSpec(
        "qzoom_build_info",
        Kind.GAUGE,
        "1 for each version that a gateway runs",
        ("version",),
        is_shared=True,
    )


AttributeValue = str | bool | int | float | tuple[int, ...] | tuple[str, ...]
"""What an attribute may hold: short scalars and tuples. Never pixels, prompts or tokens."""
