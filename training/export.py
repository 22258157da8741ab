"""Write a trained base as a checkpoint folder.

    config.json            transformers' Qwen2.5-VL config
    model.safetensors      the weights, with transformers' own names
    tokenizer.json, tokenizer_config.json, chat_template.jinja
    preprocessor_config.json, generation_config.json

A plain transformers folder: the stages that follow work on it as on any other base model.
"""

import json
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from training.checkpoint import load_state
from training.model_config import base_config, new_model
from training.pixels import CELL, MERGE, PATCH
from training.recipe import Recipe
from training.tokenizer import build_tokenizer


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


def export_base(recipe: Recipe, run: Path, folder: Path) -> None:
    """Write the checkpoint folder.

    Args:
        recipe: The run's recipe.
        run: Folder of the trained base.
        folder: Created if needed; files of the same names are replaced.

    Raises:
        ValueError: If the run holds no checkpoint.
    """
    state = load_state(run)
    if state is None:
        raise ValueError(f"{run} holds no checkpoint; run `qzoom train base` first")
    tokenizer = build_tokenizer()
    model = new_model(base_config(recipe.size, tokenizer), recipe.seed)
    model.load_state_dict(state["model"])
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_json(folder / "preprocessor_config.json", preprocessor_config(recipe))
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes files that only their owner can read


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
