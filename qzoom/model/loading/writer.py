"""How is a checkpoint in our own format written? The plain base model, the branches beside it.

config.json             transformers' own, and our key `qzoom`
model.safetensors       the base model exactly as transformers saves it (shards when large)
qzoom.safetensors       the branches, `qzoom.*`
tokenizer files, chat template, preprocessor_config.json, generation_config.json
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig, PreTrainedConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qzoom.model.config import Family, QZoomConfig
from qzoom.model.loading import keys
from qzoom.model.loading.weights import BRANCH_FILE

MAX_SHARD_BYTES = 4 * 2**30
"""Larger base models are written in several files; this much memory suffices to convert any."""


@dataclass(frozen=True, slots=True)
class OwnFormat:
    """Everything of a checkpoint except its tensors.

    Attributes:
        family: Of the backbone.
        hf_config: Of the base model.
        qzoom: Variant of the method.
        eos_ids: Tokens that end an answer.
        preprocessor_config: Contents of preprocessor_config.json.
        tokenizer: None for models that are only ever fed token ids.
    """

    family: Family
    hf_config: PreTrainedConfig
    qzoom: QZoomConfig
    eos_ids: tuple[int, ...]
    preprocessor_config: Mapping[str, Any]
    tokenizer: PreTrainedTokenizerBase | None


def write_checkpoint(
    folder: Path,
    description: OwnFormat,
    num_bytes: Mapping[str, int],
    read: Callable[[Sequence[str]], dict[str, Tensor]],
) -> None:
    """Write a folder in our own format.

    Args:
        folder: An existing empty folder.
        description: All but the tensors.
        num_bytes: Size of each tensor by canonical name; tied ones once.
        read: Returns tensors by canonical name; called for a shard at a time.
    """
    base = {name: size for name, size in num_bytes.items() if not name.startswith("qzoom.")}
    shards = list(_shards(base))
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = "model.safetensors"
        if len(shards) > 1:
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        stored = {keys.saved_name(n, description.family): t for n, t in read(names).items()}
        _save(stored, folder / file)
        weight_map |= dict.fromkeys(sorted(stored), file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(base.values())}, "weight_map": weight_map}
        write_json(folder / "model.safetensors.index.json", index)
    branches = [name for name in num_bytes if name.startswith("qzoom.")]
    if branches:
        _save(read(branches), folder / BRANCH_FILE)
    _write_settings(folder, description)


def _write_settings(folder: Path, description: OwnFormat) -> None:
    config = json.loads(description.hf_config.to_json_string(use_diff=False))
    write_json(folder / "config.json", config | {"qzoom": description.qzoom.to_dict()})
    write_json(folder / "preprocessor_config.json", dict(description.preprocessor_config))
    text = description.hf_config.get_text_config()
    GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=getattr(text, "bos_token_id", None),
        eos_token_id=list(description.eos_ids),
        pad_token_id=getattr(text, "pad_token_id", None),
    ).save_pretrained(folder)
    if description.tokenizer is not None:
        description.tokenizer.save_pretrained(folder)


def _shards(num_bytes: Mapping[str, int]) -> Iterator[list[str]]:
    shard: list[str] = []
    size = 0
    for name, tensor_bytes in num_bytes.items():
        if shard and size + tensor_bytes > MAX_SHARD_BYTES:
            yield shard
            shard, size = [], 0
        shard.append(name)
        size += tensor_bytes
    if shard:
        yield shard


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({n: t.contiguous() for n, t in tensors.items()}, path, metadata={"format": "pt"})
    # safetensors writes files that only their owner can read.
    path.chmod(0o644)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON object with sorted keys."""
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
