"""Write a trained run as a checkpoint folder.

    config.json            transformers' Qwen2.5-VL config; Q-Zoom's fields under the key `qzoom`
    model.safetensors      the base, with transformers' own names
    qzoom.safetensors      qzoom.rpn.layers.{i}.*, qzoom.gate.layers.{i}.*, qzoom.gate.head.*
    tokenizer.json, tokenizer_config.json, chat_template.jinja
    preprocessor_config.json, generation_config.json

Plain transformers opens the base and does not see the second tensor file.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig

from qzoom.model.config import QZoomConfig
from training.branch_loop import load_base
from training.checkpoint import load_state
from training.pixels import CELL, MERGE, PATCH
from training.recipe import Recipe
from training.tokenizer import build_tokenizer

BRANCH_FILE = "qzoom.safetensors"


def qzoom_config(recipe: Recipe) -> QZoomConfig:
    """The method's settings of a model trained here: preset `paper`."""
    budgets = recipe.budgets
    return QZoomConfig.preset(
        "paper",
        "qwen2_5_vl",
        split_layer=recipe.split_layer,
        gate_depth=recipe.branch_depth,
        rpn_depth=recipe.branch_depth,
        tau_gate=recipe.tau_gate,
        tau_roi=recipe.tau_roi,
        coarse_min_tokens=budgets.min_tokens,
        coarse_max_tokens=budgets.max_tokens,
        roi_min_tokens=budgets.roi_min_tokens,
        roi_max_tokens=budgets.roi_max_tokens,
    )


def preprocessor_config(recipe: Recipe) -> dict[str, Any]:
    """Qwen2-VL's image processor with the coarse budget as its pixel limits."""
    area = CELL * CELL
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "patch_size": PATCH,
        "merge_size": MERGE,
        "temporal_patch_size": 2,
        "size": {
            "shortest_edge": recipe.budgets.min_tokens * area,
            "longest_edge": recipe.budgets.max_tokens * area,
        },
        "min_pixels": recipe.budgets.min_tokens * area,
        "max_pixels": recipe.budgets.max_tokens * area,
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
        "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }


def export_model(recipe: Recipe, run: Path, folder: Path) -> None:
    """Write the checkpoint folder.

    Args:
        recipe: The run's recipe.
        run: Run folder with base/, rpn/ and gate/.
        folder: Created if needed; files of the same names are replaced.

    Raises:
        ValueError: If a stage has no checkpoint.
    """
    forward, _ = load_base(recipe, run / "base")
    model, tokenizer = forward.model, build_tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    eos = tokenizer.eos_token_id
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, eos_token_id=eos, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["qzoom"] = qzoom_config(recipe).to_dict()
    _write_json(folder / "config.json", config)
    _write_json(folder / "preprocessor_config.json", preprocessor_config(recipe))
    branches: dict[str, Tensor] = {}
    for name in ("rpn", "gate"):
        state = load_state(run / name)
        if state is None:
            raise ValueError(f"{run / name} holds no checkpoint; run `qzoom train {name}` first")
        branches |= {f"qzoom.{name}.{key}": value for key, value in state["branch"].items()}
    save_file(branches, folder / BRANCH_FILE, metadata={"format": "pt"})
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes files that only their owner can read


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
