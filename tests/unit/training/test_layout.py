"""Training must lay sequences out exactly as qzoom.model does."""

import numpy as np
import pytest

from qzoom.contracts.stages import ImageSpan, Prompt, Proposal
from qzoom.model.config import QZoomConfig
from qzoom.model.positions import coarse_positions, zoom_tail
from training.layout import Prompts, Tree
from training.tokenizer import build_tokenizer

CONFIG = QZoomConfig.preset("paper", "qwen2_5_vl", split_layer=4)


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return Prompts(build_tokenizer())


def prompt_of(tree: Tree, path: list[int]):
    ids = [i for segment in path for i in tree.segments[segment].ids]
    positions = np.concatenate([tree.segments[segment].positions for segment in path], axis=1)
    return np.asarray(ids, dtype=np.int32), positions


@pytest.mark.parametrize("grid", [(6, 6), (5, 7), (3, 3)])
@pytest.mark.parametrize("with_system", [False, True])
def test_direct_positions_equal_the_library(prompts, grid, with_system):
    tree = Tree(prompts)
    root = tree.add_image(grid, with_system)
    first = tree.add_question(root, "Where is the star?", "left")
    second = tree.add_question(first, "What is its color?", "red")
    ids, positions = prompt_of(tree, [root, first, second])
    span = ImageSpan(image=0, start=tree.image_start, grid=grid, size_px=(504, 504))
    np.testing.assert_array_equal(positions, coarse_positions(len(ids), [span], mrope=True))


@pytest.mark.parametrize(
    ("roi", "box"), [((6, 6), (2, 1, 4, 3)), ((1, 4), (0, 5, 2, 6)), ((3, 1), (5, 0, 6, 3))]
)
def test_zoom_tail_equals_the_library(prompts, roi, box):
    grid = (6, 6)
    tree = Tree(prompts)
    root = tree.add_image(grid, with_system=False)
    plain = tree.add_question(root, "What is the code on the star?", "4071")
    block = tree.add_roi(root, roi, box)
    zoomed = tree.add_question(block, "What is the code on the star?", "4071")
    ids, positions = prompt_of(tree, [root, plain])
    span = ImageSpan(image=0, start=tree.image_start, grid=grid, size_px=(504, 504))
    prompt = Prompt(ids=ids, positions=positions, spans=(span,))
    proposal = Proposal(image=0, box_cells=box, box_px=(0, 0, 1, 1), score=1.0)
    tail = zoom_tail(prompt, proposal, roi, CONFIG, mrope=True)
    tail_ids, tail_positions = prompt_of(tree, [block, zoomed])
    np.testing.assert_array_equal(tail.ids, tail_ids)
    np.testing.assert_allclose(tail.positions, tail_positions, atol=1e-5)


def test_a_conversation_is_the_rendered_chat_template(prompts):
    tokenizer = build_tokenizer()
    tree = Tree(prompts)
    root = tree.add_image((1, 1), with_system=True)
    first = tree.add_question(root, "Where is the star?", "top left")
    second = tree.add_question(first, "Is there a red cross?", "no")
    image, text = {"type": "image"}, {"type": "text", "text": "Where is the star?"}
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": [image, text]},
        {"role": "assistant", "content": "top left"},
        {"role": "user", "content": "Is there a red cross?"},
        {"role": "assistant", "content": "no"},
    ]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    expected = tokenizer.encode(rendered.rstrip("\n"), add_special_tokens=False)
    assert prompt_of(tree, [root, first, second])[0].tolist() == expected
