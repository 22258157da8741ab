"""Which variant of the method does a checkpoint follow?

`QZoomConfig` is the only place that says so. It is stored under the key `qzoom` of config.json;
every point where the published code differs from the paper is a field of it, and
docs/decisions/0002-paper-versus-released.md lists them with their values in both presets.
"""

import dataclasses
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

Family = Literal["qwen2_5_vl", "qwen3_vl", "llava"]
Preset = Literal["paper", "released"]

SinkMask = Literal["none", "corner", "first_token"]
RoiThreshold = Literal["absolute", "relative"]
RegionRule = Literal["bounding_box", "components"]
RoiPositions = Literal["eq15", "interpolated", "sequential"]
TemporalShift = Literal["min", "max_plus_2"]
CropResize = Literal["budget", "pad", "squash"]
TokenFilter = Literal["all", "mask"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QZoomConfig:
    """Hyper-parameters of gate, RPN, RoI and zoomed sequence.

    Attributes:
        split_layer: B, decoder layers below the branches (Table XI).
        gate_depth: R, decoder layers of the gate's branch.
        rpn_depth: R, decoder layers of the RPN's branch; the last one only scores.
        has_gate: Without a gate, `auto` always asks the RPN.
        has_rpn: Without an RPN, every request takes the direct route.
        tau_gate: Zoom when p(refine) is at least this, in [0, 1].
        tau_roi: Cells whose smoothed score is above this belong to the RoI, in (0, 1).
        roi_threshold: Whether tau_roi is a score (Eq. 6), or a part of the map's largest one, as
            tau_fg is when labels are made (Eq. 12).
        rpn_rope: Rotate the RPN's queries and keys before they are scored (Eq. 5 has no RoPE).
        rpn_scale: Divide each head's score by sqrt(head size) (Eq. 5 does not).
        rpn_multi_head: Average the scores of the heads; else one product over the hidden size,
            unscaled.
        rpn_extra_norm: An RMSNorm of the RPN's own before the last layer's input norm.
        sink_mask: Cells that are zeroed before smoothing: none; `corner`, a quarter of the first
            row and column of maps above 256 cells; `first_token`, cells that the first token of
            the prompt attends to.
        region_rule: One box around all cells, or LLaVA's rule over connected components.
        roi_margin_cells: Context around the box on every side, in coarse cells.
        min_side_px: Shortest side of the RoI, in pixels of the source picture.
        min_crop_px: A RoI with a shorter side, as pictures narrower than `min_side_px` give it,
            is no RoI.
        crop_resize: How the crop becomes a model input: `budget` keeps its aspect ratio within
            the token limits, `pad` pads to a square, `squash` ignores the aspect ratio.
        token_filter: Whether tokens of the crop outside the RoI mask are dropped.
        roi_delimiters: Wrap the RoI in copies of vision_start and vision_end.
        roi_positions: M-RoPE positions of the RoI: `eq15` as in the paper, `interpolated` between
            the centres of the first and last cell, `sequential` like a next picture.
        temporal_shift: delta of Eq. 15: min(H, W), or max(H, W) + 2.
        fetch_resize: Round the source picture to multiples of 28 px before the processor.
        coarse_min_tokens: Fewest visual tokens of the coarse picture.
        coarse_max_tokens: Most visual tokens of the coarse picture, unless the request says so.
        roi_min_tokens: Fewest visual tokens of the RoI; small crops are enlarged.
        roi_max_tokens: Most visual tokens of the RoI, unless the request says so.
        default_system: System turn of a conversation that has none; None leaves it to the
            chat template.
    """

    split_layer: int
    gate_depth: int = 3
    rpn_depth: int = 3
    has_gate: bool = True
    has_rpn: bool = True
    tau_gate: float = 0.5
    tau_roi: float = 0.5
    roi_threshold: RoiThreshold = "absolute"
    rpn_rope: bool = True
    rpn_scale: bool = True
    rpn_multi_head: bool = True
    rpn_extra_norm: bool = False
    sink_mask: SinkMask = "none"
    region_rule: RegionRule = "bounding_box"
    roi_margin_cells: float = 0.0
    min_side_px: int = 28
    min_crop_px: int = 0
    crop_resize: CropResize = "budget"
    token_filter: TokenFilter = "all"
    roi_delimiters: bool = True
    roi_positions: RoiPositions = "eq15"
    temporal_shift: TemporalShift = "min"
    fetch_resize: bool = False
    coarse_min_tokens: int = 256
    coarse_max_tokens: int = 576
    roi_min_tokens: int = 256
    roi_max_tokens: int = 576
    default_system: str | None = None

    def __post_init__(self) -> None:
        """Check types and ranges.

        Raises:
            ValueError: Naming the field, its value and what it may be.
        """
        for name, kind in get_type_hints(type(self)).items():
            _check_type(name, getattr(self, name), kind)
        for name in ("split_layer", "gate_depth", "rpn_depth", "coarse_min_tokens"):
            _check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _check(0 <= self.tau_gate <= 1, "tau_gate", self.tau_gate, "in [0, 1]")
        _check(0 < self.tau_roi < 1, "tau_roi", self.tau_roi, "in (0, 1)")
        is_finite = 0 <= self.roi_margin_cells < math.inf
        _check(is_finite, "roi_margin_cells", self.roi_margin_cells, "at least 0 and finite")
        for name in ("min_side_px", "min_crop_px"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), ">= 0")
        for which in ("coarse", "roi"):
            low, high = getattr(self, f"{which}_min_tokens"), getattr(self, f"{which}_max_tokens")
            _check(1 <= low <= high, f"{which}_min_tokens", low, f"in [1, {high}]")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, every field present."""
        return dataclasses.asdict(self)

    def choices(self) -> dict[str, Any]:
        """Return what differs from the defaults, which is what names the behaviour for good.

        A field that is added later, with a default that leaves things as they were, changes nothing
        about the checkpoints that exist.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in self.to_dict().items() if value != defaults[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; absent fields take their defaults.

        Raises:
            ValueError: If a key is unknown, `split_layer` is missing, or a value is not allowed.
        """
        unknown = sorted(set(values) - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"unknown keys in the qzoom config: {', '.join(unknown)}")
        if "split_layer" not in values:
            raise ValueError("the qzoom config lacks split_layer")
        return cls(**values)

    @classmethod
    def preset(cls, preset: Preset, family: Family, *, split_layer: int, **values: object) -> Self:
        """Start from a named preset.

        Args:
            preset: `paper` for models trained here, `released` for the authors' checkpoints.
            family: Backbone family, since the published code differs between them.
            split_layer: B.
            **values: Fields that replace the preset's.
        """
        fields: dict[str, Any] = {"split_layer": split_layer, **_PRESETS[preset][family], **values}
        return cls(**fields)


_LLAVA: dict[str, Any] = {
    # No M-RoPE and no delimiters in this family; the tower takes 336 x 336 pixels only.
    "roi_positions": "sequential",
    "roi_delimiters": False,
    "coarse_min_tokens": 576,
    "roi_min_tokens": 576,
}
_RELEASED_QWEN: dict[str, Any] = {
    "tau_gate": 0.1,
    "tau_roi": 0.1,
    "roi_positions": "sequential",
    "temporal_shift": "max_plus_2",
    "fetch_resize": True,
}
_PRESETS: dict[Preset, dict[Family, dict[str, Any]]] = {
    "paper": {
        "qwen2_5_vl": {},
        "qwen3_vl": {},
        "llava": {**_LLAVA, "crop_resize": "pad"},
    },
    "released": {
        # The processor of transformers 4.51 refuses crops of less than one cell.
        "qwen2_5_vl": {**_RELEASED_QWEN, "sink_mask": "corner", "min_crop_px": 28},
        "qwen3_vl": {
            **_RELEASED_QWEN,
            "sink_mask": "first_token",
            "default_system": "You are a helpful assistant.",
        },
        "llava": {
            **_LLAVA,
            "has_gate": False,
            "tau_gate": 0.1,
            "tau_roi": 0.15,
            "rpn_rope": False,
            "rpn_extra_norm": True,
            "region_rule": "components",
            "min_side_px": 0,
            "crop_resize": "squash",
            "token_filter": "mask",
            "temporal_shift": "max_plus_2",
        },
    },
}

DEFAULT_SPLIT_LAYER: dict[tuple[Family, int], int] = {
    ("llava", 32): 15,
    ("llava", 40): 15,
    ("qwen2_5_vl", 36): 24,
    ("qwen2_5_vl", 28): 18,
    ("qwen3_vl", 36): 24,
}
"""B by family and number of layers L (Table XI), for checkpoints that do not say."""


def _check(is_good: bool, name: str, value: object, allowed: str) -> None:
    if not is_good:
        raise ValueError(f"qzoom config: {name} is {value!r}, must be {allowed}")


def _check_type(name: str, value: object, kind: type | types.UnionType) -> None:
    """Refuse a value that JSON could hold but the field does not mean, such as "false"."""
    if get_origin(kind) is Literal:
        _check(value in get_args(kind), name, value, f"one of {', '.join(get_args(kind))}")
        return
    options = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    accepted = (*options, int) if float in options else options
    is_good = isinstance(value, accepted) and (bool in options or not isinstance(value, bool))
    _check(is_good, name, value, f"of type {getattr(kind, '__name__', kind)}")
