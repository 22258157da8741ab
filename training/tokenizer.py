r"""The built-in model's tokenizer: whole words of the templates, digits, single characters.

A word carries the space before it ("\u2581red"), as in SentencePiece, also at the start of a
text; digits never do, so a code is read and written character by character and decodes without
spaces. Words that the templates do not know fall apart into characters; only exotic signs are
unknown.
"""

import re
import string
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from qzoom.data.phrasing import NOUNS, PHRASINGS, PLACE_PHRASES, PREFIXES, SUFFIXES
from qzoom.data.questions import NONE_ANSWER
from qzoom.data.vocabulary import COLOURS, SHAPES, plural

SPACE = "\u2581"
UNKNOWN = "<unk>"
SPECIAL_TOKENS: tuple[str, ...] = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

CHAT_TEMPLATE = (Path(__file__).parent / "chat_template.jinja").read_text()
"""Qwen2.5-VL's turns, but without a default system turn: prompts of a small model stay short."""

SYSTEM_PROMPT = "You are a helpful assistant."
"""What Qwen's own template puts first and many clients send; training shows it now and then."""


def template_words() -> list[str]:
    """All words that questions and answers are made of, lower case, sorted."""
    texts: list[str] = [SYSTEM_PROMPT, "system user assistant yes no", NONE_ANSWER]
    texts += [text for options in PHRASINGS.values() for text in options]
    texts += [text for options in PLACE_PHRASES.values() for text in options]
    texts += [*PLACE_PHRASES, *PREFIXES, *SUFFIXES, *COLOURS, *SHAPES, *NOUNS, "a an"]
    texts += [plural(word) for word in (*SHAPES, *NOUNS)]
    return sorted({word for text in texts for word in _words(text)})


def _words(text: str) -> Iterable[str]:
    return re.findall(r"[a-z]{2,}|\ba\b", re.sub(r"\{\w+\}", " ", text.lower()))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer with Qwen's special tokens and chat template."""
    characters = string.ascii_lowercase + string.digits + string.punctuation + "\n" + SPACE
    vocabulary = [UNKNOWN, *characters, *(SPACE + word for word in template_words())]
    model = models.BPE(
        vocab={token: index for index, token in enumerate(vocabulary)},
        merges=[],
        unk_token=UNKNOWN,
        ignore_merges=True,
    )
    tokenizer = Tokenizer(model)
    # A word at the start of a line is the same token as within it.
    line_start = normalizers.Replace(Regex(r"\n(?=[a-z])"), "\n ")
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), line_start]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(SPACE, prepend_scheme="always", split=False),
            # No mark before digits and line ends: "4071" is four tokens wherever it stands.
            pre_tokenizers.Split(Regex(rf"{SPACE}+(?=[0-9\n]|$)"), "removed"),
            pre_tokenizers.Split(Regex(rf"{SPACE}?[a-z]+|{SPACE}|[^a-z{SPACE}]"), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(SPACE, prepend_scheme="always", split=False)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS),
        chat_template=CHAT_TEMPLATE,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
