"""What does a running service say about itself? Asked by the gateway, never by clients."""

from dataclasses import dataclass

from qzoom.contracts.budget import ImageRules


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One replica of one service.

    Attributes:
        service: `encoder`, `gate`, `rpn` or `llm`.
        replica: Names the replica in logs; unique while it lives.
        pid: Its process.
        load_s: Seconds from the start of the replica to its readiness, imports included.
        parameters: Parameters that it holds.
        parameter_bytes: Their size.
        memory_bytes: Resident memory of the process.
        device: `cpu` or `cuda`.
        dtype: Element type of the parameters, such as `float32`.
    """

    service: str
    replica: str
    pid: int
    load_s: float
    parameters: int
    parameter_bytes: int
    memory_bytes: int
    device: str
    dtype: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the gateway must know about the checkpoint; told by the gate service.

    Attributes:
        family: `qwen2_5_vl`, `qwen3_vl` or `llava`.
        revision: Content hash of the checkpoint.
        has_gate: Whether p(refine) can be asked for; without, `auto` always asks the RPN.
        has_rpn: Whether a region can be proposed; without, only `direct` is possible.
        tau_gate: Default threshold on p(refine).
        tau_roi: Default threshold on the heat map.
        cell_px: Side of a visual token in pixels of the resized picture.
        rules: How pictures become cells, to predict what they cost.
        max_roi_tokens: Default budget of the RoI, in visual tokens.
        kv_bytes_per_token: Size of the KV cache of one position over all layers.
        visual_bytes_per_token: Size of the features of one visual token.
        state_bytes_per_token: Size of the prefill state of one token: KV of layers 1..B and the
            hidden state after layer B.
        accuracy_by_tau: Pairs of tau_gate and accuracy on a validation split, by rising tau_gate,
            as `qzoom calibrate` measured them; empty where this revision was not calibrated.
        max_prompt_tokens: Longest sequence that an answer can begin from, RoI included; None where
            nothing bounds it.
    """

    family: str
    revision: str
    has_gate: bool
    has_rpn: bool
    tau_gate: float
    tau_roi: float
    cell_px: int
    rules: ImageRules
    max_roi_tokens: int
    kv_bytes_per_token: int
    visual_bytes_per_token: int
    state_bytes_per_token: int
    accuracy_by_tau: tuple[tuple[float, float], ...] = ()
    max_prompt_tokens: int | None = None
