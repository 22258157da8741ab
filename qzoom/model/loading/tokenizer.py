"""The checkpoint's tokenizer, with a chat template in every case."""

from pathlib import Path

from google.protobuf.message import DecodeError
from transformers import AutoTokenizer, LlamaTokenizer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase, generate_merges
from transformers.utils.sentencepiece_model_pb2_new import (  # type: ignore[attr-defined]
    ModelProto,
)

from qzoom.model import templates
from qzoom.model.config import Family
from qzoom.model.loading.errors import CheckpointError
from qzoom.model.loading.weights import read_json

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model")


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder holds one of the files that a tokenizer is read from."""
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)


def load_tokenizer(folder: Path, family: Family) -> PreTrainedTokenizerBase:
    """Open the tokenizer; a folder without a chat template gets its family's own.

    Raises:
        CheckpointError: If there is no tokenizer or it cannot be read.
    """
    if not has_tokenizer(folder):
        raise CheckpointError(f"{folder} has no tokenizer ({', '.join(_TOKENIZER_FILES)})")
    try:
        if (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        else:
            tokenizer = _read_sentencepiece(folder)
    except (OSError, ValueError, KeyError, DecodeError) as error:
        raise CheckpointError(f"the tokenizer of {folder} cannot be read: {error}") from error
    processor_template = folder / "chat_template.json"
    if tokenizer.chat_template is None and processor_template.is_file():
        # Up to transformers 4.51 the template was the processor's, in a file of its own.
        tokenizer.chat_template = read_json(processor_template).get("chat_template")
    if tokenizer.chat_template is None:
        tokenizer.chat_template = templates.CHAT_TEMPLATES[family]
    result: PreTrainedTokenizerBase = tokenizer
    return result


def _read_sentencepiece(folder: Path) -> LlamaTokenizer:
    """Read Vicuna's SentencePiece model without the library of that name.

    transformers does the same conversion, but insists on the library being there.
    """
    model = ModelProto.FromString((folder / "tokenizer.model").read_bytes())
    vocabulary = {piece.piece: index for index, piece in enumerate(model.pieces)}
    settings_file = folder / "tokenizer_config.json"
    settings = read_json(settings_file) if settings_file.is_file() else {}
    return LlamaTokenizer(
        vocab=vocabulary,
        merges=generate_merges(vocabulary),
        # Vicuna's choice, which the published code of LLaVA-1.5 reads.
        legacy=bool(settings.get("legacy", False)),
        model_max_length=settings.get("model_max_length", 2048),
    )
