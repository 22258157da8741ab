"""Which name does a stored tensor have in this project?

Canonical names are those of transformers' own modules for the base model, and `qzoom.*` for the
branches. Checkpoints were saved by several generations of transformers and by the authors'
subclasses; every spelling is mapped here, and nowhere else.
"""

import re

from qzoom.model.config import Family

RPN_LAYERS = "qzoom.rpn.layers"
RPN_NORM = "qzoom.rpn.norm"
GATE_LAYERS = "qzoom.gate.layers"
GATE_HEAD = "qzoom.gate.head"

EMBEDDINGS = "model.language_model.embed_tokens.weight"
LM_HEAD = "lm_head.weight"

SCORING_PARTS = ("input_layernorm.", "self_attn.q_", "self_attn.k_")
"""All that is used of the RPN's last layer: its norm, q_proj and k_proj, q_norm and k_norm."""

_UNUSED = re.compile(r"^twig_head\.|rotary_emb\.inv_freq$|embeddings\.position_ids$")
"""A copy of lm_head that training left behind, and buffers that old versions stored."""

_RENAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # Branches as the authors name them; `language_model` since transformers 4.52.
        (r"^model\.(?:language_model\.)?twig_layers\.", f"{RPN_LAYERS}."),
        (r"^model\.(?:language_model\.)?twig_norm\.", f"{RPN_NORM}."),
        (r"^model\.(?:language_model\.)?high_res_layers\.", f"{GATE_LAYERS}."),
        (r"^model\.(?:language_model\.)?high_res_head\.", f"{GATE_HEAD}."),
        # Qwen2.5-VL up to transformers 4.51, and LLaVA's own repository.
        (r"^model\.(layers|embed_tokens|norm)\.", r"model.language_model.\1."),
        (r"^visual\.", "model.visual."),
        (r"^model\.mm_projector\.0\.", "model.multi_modal_projector.linear_1."),
        (r"^model\.mm_projector\.2\.", "model.multi_modal_projector.linear_2."),
        (r"^model\.vision_tower\.vision_tower\.(?:vision_model\.)?", "model.vision_tower."),
        # LLaVA as transformers saves it, with or without the tower's inner `vision_model`.
        (r"^language_model\.lm_head\.", "lm_head."),
        (r"^language_model\.model\.", "model.language_model."),
        (r"^(?:model\.)?vision_tower\.(?:vision_model\.)?", "model.vision_tower."),
        (r"^multi_modal_projector\.", "model.multi_modal_projector."),
    )
)

_SAVED_AS: dict[Family, tuple[tuple[str, str], ...]] = {
    "qwen2_5_vl": (("model.language_model.", "model."), ("model.visual.", "visual.")),
    "qwen3_vl": (),
    "llava": (
        ("lm_head.", "language_model.lm_head."),
        ("model.language_model.", "language_model.model."),
        ("model.vision_tower.", "vision_tower."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
    ),
}

_CLIP_TOWER = re.compile(r"^(?:vision_model\.)?(embeddings|encoder|pre_layrnorm|post_layernorm)\.")


def canonical_name(stored: str) -> str | None:
    """Map the name of a stored tensor, None for tensors that nothing reads."""
    if _UNUSED.search(stored):
        return None
    for pattern, replacement in _RENAMES:
        name, count = pattern.subn(replacement, stored)
        if count:
            return name
    return stored


def canonical_tower_name(stored: str) -> str | None:
    """Map a tensor of a CLIP tower's own folder; None for the rest of CLIP."""
    if _UNUSED.search(stored) or not _CLIP_TOWER.match(stored):
        return None
    return _CLIP_TOWER.sub(r"model.vision_tower.\1.", stored)


def saved_name(name: str, family: Family) -> str:
    """Name under which transformers stores a tensor of the base model."""
    for prefix, stored in _SAVED_AS[family]:
        if name.startswith(prefix):
            return stored + name.removeprefix(prefix)
    return name


def is_scoring_part(suffix: str) -> bool:
    """Whether the last RPN layer uses this tensor (the name within the layer)."""
    return suffix.startswith(SCORING_PARTS)
