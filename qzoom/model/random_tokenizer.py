"""Tokenizers of random checkpoints: real classes and files, vocabularies of a few hundred."""

from pathlib import Path

from transformers import LlamaTokenizer, Qwen2Tokenizer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase, generate_merges
from transformers.utils.sentencepiece_model_pb2_new import (  # type: ignore[attr-defined]
    ModelProto,
)

from qzoom.model.config import Family
from qzoom.model.templates import CHAT_TEMPLATES, IMAGE_MARK

_QWEN_CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_WORDS = ("what", "the", "is", "of", "code", "red", "sign", "system", "user", "assistant")
"""Merged to longer tokens, so that words of one and of many tokens occur."""

_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
"""Kinds of pieces in a SentencePiece model."""
_BPE = 2


def random_tokenizer(family: Family) -> PreTrainedTokenizerBase:
    """Make a small tokenizer of the family's class, with its chat template."""
    tokenizer = _llama_tokenizer() if family == "llava" else _qwen_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATES[family]
    tokenizer.model_max_length = 4096
    return tokenizer


def placeholder_id(tokenizer: PreTrainedTokenizerBase, family: Family) -> int:
    """Id that stands at the positions of visual tokens; on LLaVA-1.5 that of the padding."""
    mark = "<unk>" if family == "llava" else IMAGE_MARK[family]
    found = tokenizer.convert_tokens_to_ids(mark)
    assert isinstance(found, int)
    return found


def write_sentencepiece(path: Path) -> None:
    """Write the LLaVA tokenizer as the one file that LLaVA's own repository has."""
    model = ModelProto()
    model.trainer_spec.model_type = _BPE
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    for index, text in enumerate(_llama_vocabulary()):
        kind = _NORMAL
        if text in {"<s>", "</s>"}:
            kind = _CONTROL
        elif text == "<unk>":
            kind = _UNKNOWN
        elif text.startswith("<0x"):
            kind = _BYTE
        model.pieces.add(piece=text, score=-float(index), type=kind)
    path.write_bytes(model.SerializeToString())


def _llama_tokenizer() -> PreTrainedTokenizerBase:
    vocabulary = _llama_vocabulary()
    tokenizer: PreTrainedTokenizerBase = LlamaTokenizer(
        vocab=vocabulary, merges=generate_merges(vocabulary)
    )
    tokenizer.pad_token = "<unk>"
    return tokenizer


def _qwen_tokenizer() -> PreTrainedTokenizerBase:
    # tokenizers' byte alphabet: printable bytes stand for themselves, the others for U+0100 on.
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = [chr(b) for b in printable] + [chr(0x100 + i) for i in range(len(others))]
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    merges: list[tuple[str, str]] = []
    for word in _WORDS:
        for end in range(1, len(word)):
            pair = (word[:end], word[end])
            if pair not in merges:
                merges.append(pair)
                vocabulary.setdefault(word[: end + 1], len(vocabulary))
    tokenizer: PreTrainedTokenizerBase = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,  # type: ignore[arg-type]  # tokenizers wants pairs, whatever is written
        eos_token="<|im_end|>",
        additional_special_tokens=list(_QWEN_CONTROL),
    )
    return tokenizer


def _llama_vocabulary() -> dict[str, int]:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    for word in _WORDS:
        # Every beginning is a piece, as in a trained BPE, so that merges lead up to the word.
        marked = f"\u2581{word}"
        pieces += [marked[:end] for end in range(1, len(marked) + 1)]
    pieces += [chr(code) for code in range(ord("!"), ord("~") + 1)]
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
