"""Training's batched forward must compute what transformers computes for one request."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from training.batch import Forward, collate
from training.layout import IGNORE, Prompts
from training.model_config import ModelSize, base_config, new_model
from training.modes import Budgets, Sample, make_sample
from training.pixels import CELL, patches, token_grid
from training.tokenizer import build_tokenizer

FP32_ATOL = 2e-5  # another order of the same sums


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return Prompts(build_tokenizer())


@pytest.fixture(scope="module")
def model() -> Qwen2_5_VLForConditionalGeneration:
    size = ModelSize(num_text_layers=3)
    return new_model(base_config(size, build_tokenizer()), seed=3).eval()


def answer_logits(model, prompts, samples: list[Sample]) -> torch.Tensor:
    forward = Forward(model)
    batch = collate(samples, prompts, 3)
    with torch.no_grad():
        visual = torch.cat([forward.visual_tokens(group) for group in batch.vision])
        return forward.answers(batch, visual)[0]


@pytest.mark.parametrize("size", [(504, 504), (640, 470), (84, 84), (455, 680)])
def test_pixels_equal_the_image_processor(size):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    area = CELL * CELL
    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 4 * area, "longest_edge": 36 * area}
    )
    expected = processor(image, return_tensors="pt")
    grid = token_grid(*size, 4, 36)
    assert expected["image_grid_thw"].tolist() == [[1, grid[0] * 2, grid[1] * 2]]
    ours = patches(image, grid).reshape(-1, 3, 1, 14 * 14).repeat(2, axis=2).reshape(-1, 1176)
    np.testing.assert_allclose(ours, expected["pixel_values"].numpy(), atol=1e-6)


def test_direct_route_equals_transformers(model, prompts):
    """Every question of a packed sample scores as if it were asked alone."""
    sample = make_sample(11, "coarse", prompts, Budgets(), plain=True)
    packed = answer_logits(
        model, prompts, [make_sample(5, "coarse", prompts, Budgets(), True), sample]
    )
    segments = sample.tree.segments
    root, grid = segments[0], sample.views[0].grid
    pixels = sample.views[0].patches.reshape(-1, 3, 1, 196).repeat(2, axis=2).reshape(-1, 1176)
    expected = []
    for segment in segments[1:]:
        ids = torch.tensor([root.ids + segment.ids])
        with torch.no_grad():
            out = model(
                input_ids=ids,
                pixel_values=torch.from_numpy(pixels),
                image_grid_thw=torch.tensor([[1, grid[0] * 2, grid[1] * 2]]),
                mm_token_type_ids=(ids == prompts.image_pad).int(),
            )
        at = [len(root.ids) + i for i, label in enumerate(segment.labels) if label != IGNORE]
        expected.append(out.logits[0, at])
    torch.testing.assert_close(
        packed[-sum(map(len, expected)) :], torch.cat(expected), atol=FP32_ATOL, rtol=1e-4
    )


def test_packing_does_not_change_a_zoom_answer(model, prompts):
    """Crops, questions and neighbours in the batch are invisible to each other."""
    sample = make_sample(7, "zoom", prompts, Budgets(), plain=True)
    other = make_sample(8, "item", prompts, Budgets(), plain=True)
    together = answer_logits(model, prompts, [other, sample])
    alone = answer_logits(model, prompts, [sample])
    torch.testing.assert_close(together[-len(alone) :], alone, atol=FP32_ATOL, rtol=1e-4)
    last = sample.tree.segments[-1]
    keep = {0, len(sample.tree.segments) - 1, last.parent}
    views = [sample.views[0]]
    rois = [i for i, s in enumerate(sample.tree.segments) if s.parent == 0]
    views.append(sample.views[1 + rois.index(last.parent)])
    tree = sample.tree
    tree.segments = [s for i, s in enumerate(tree.segments) if i in keep]
    tree.segments[-1].parent = 1
    one_path = answer_logits(model, prompts, [dataclasses.replace(sample, tree=tree, views=views)])
    torch.testing.assert_close(one_path, alone[-len(one_path) :], atol=FP32_ATOL, rtol=1e-4)
