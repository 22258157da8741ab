"""What must the gateway know about the checkpoint? Read once, when the gate service loads."""

import torch

from qzoom.contracts.calibration import load_calibration
from qzoom.contracts.status import ModelFacts
from qzoom.errors import InvalidRequest
from qzoom.model.backbones import text_backbone
from qzoom.model.images import open_preprocessor
from qzoom.model.loading import Checkpoint, CheckpointError


def model_facts(
    checkpoint: Checkpoint, dtype: torch.dtype, max_prompt_tokens: int | None = None
) -> ModelFacts:
    """Collect what routing, budgets and admission are decided by.

    Args:
        checkpoint: Of the gate.
        dtype: Of its states; the sizes that are told assume the same type in all services.
        max_prompt_tokens: Longest sequence that an answer can begin from.

    Raises:
        CheckpointError: If the folder has a calibration that is broken.
    """
    config = checkpoint.qzoom
    rules = open_preprocessor(checkpoint).rules
    backbone = text_backbone(checkpoint.family, checkpoint.hf_config)
    kv_bytes = 2 * backbone.num_kv_heads * backbone.head_size * dtype.itemsize
    hidden_bytes = backbone.hidden_size * dtype.itemsize
    return ModelFacts(
        family=checkpoint.family,
        revision=checkpoint.revision,
        has_gate=config.has_gate,
        has_rpn=config.has_rpn,
        tau_gate=config.tau_gate,
        tau_roi=config.tau_roi,
        cell_px=rules.cell_px,
        rules=rules,
        max_roi_tokens=rules.max_tokens if rules.fixed_grid else config.roi_max_tokens,
        kv_bytes_per_token=backbone.num_layers * kv_bytes,
        visual_bytes_per_token=(1 + backbone.num_deepstack) * hidden_bytes,
        state_bytes_per_token=config.split_layer * kv_bytes + hidden_bytes,
        accuracy_by_tau=_accuracy_by_tau(checkpoint),
        max_prompt_tokens=max_prompt_tokens,
    )


def _accuracy_by_tau(checkpoint: Checkpoint) -> tuple[tuple[float, float], ...]:
    try:
        calibration = load_calibration(checkpoint.path, checkpoint.revision)
    except InvalidRequest as error:
        raise CheckpointError(error.message) from error
    return () if calibration is None else calibration.accuracy_by_tau
