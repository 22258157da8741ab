import pytest
from transformers import AutoTokenizer

from qzoom.data.phrasing import PHRASINGS, PLACE_PHRASES
from training.layout import Prompts
from training.tokenizer import SPECIAL_TOKENS, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """As a user gets it: saved, and opened by AutoTokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer().save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("answer", ["4071", "red star", "top left", "yes", "none", "3", "055"])
def test_answers_decode_without_stray_spaces(tokenizer, answer):
    ids = tokenizer.encode(answer, add_special_tokens=False)
    assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == answer


def test_codes_are_read_character_by_character(tokenizer):
    tokens = tokenizer.tokenize("Which shape has the code 4071?")
    assert tokens[-5:] == ["4", "0", "7", "1", "?"]


def test_case_does_not_matter(tokenizer):
    assert tokenizer.encode("WHAT IS the Code?") == tokenizer.encode("what is the code?")


def test_template_words_are_single_tokens(tokenizer):
    """A question takes one token a word, whatever its phrasing."""
    texts = [t for options in (*PHRASINGS.values(), *PLACE_PHRASES.values()) for t in options]
    for text in texts:
        plain = text.format(ref="the star", ref_a="a star", many="stars", code="4", at="left")
        words = plain.replace("?", " ?").replace(".", " .").split()
        assert len(tokenizer.tokenize(plain)) == len(words), plain


def test_any_text_has_tokens(tokenizer):
    assert tokenizer.decode(tokenizer.encode("Banana, xyz-7!")) == "banana, xyz-7!"
    assert tokenizer.unk_token_id in tokenizer.encode("\u4e2d")


def test_special_tokens_are_whole(tokenizer):
    for token in SPECIAL_TOKENS:
        assert tokenizer.tokenize(token) == [token]


def test_there_is_no_system_turn_unless_given(tokenizer):
    content = [{"type": "image"}, {"type": "text", "text": "Where is the star?"}]
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    assert rendered == (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Where is the star?"
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    assert Prompts(tokenizer).user == tokenizer.encode("<|im_start|>user\n")
