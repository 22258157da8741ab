"""Our slices of a backbone against transformers' own forward over the whole model."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from qzoom.contracts.conversation import single_question
from qzoom.model.decoder import ResumeInput, Roi
from qzoom.model.positions import zoom_tail
from qzoom.model.prefill import PrefillInput

ATOL = 2e-5  # float32, the order of sums differs between packed and batched attention
pytestmark = pytest.mark.parity


@pytest.fixture
def hf_model(family, checkpoint_folder):
    model = AutoModelForImageTextToText.from_pretrained(
        checkpoint_folder(family), dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


@pytest.fixture
def coarse(pipeline):
    """Encode and tokenise: prompt, inputs of the tower, visual tokens."""

    def encode(conversation, images):
        inputs = [pipeline.encoder.prepare_coarse(image) for image in images]
        visuals = pipeline.encoder.encode(inputs)
        sizes = [(image.shape[1], image.shape[0]) for image in images]
        prompt = pipeline.gate.tokenize(conversation, [v.grid for v in visuals], sizes)
        return prompt, inputs, visuals

    return encode


def hf_inputs(family, prompt, inputs, checkpoint):
    ids = torch.from_numpy(prompt.ids).long()[None]
    pixels = [torch.from_numpy(item.patches.pixel_values) for item in inputs]
    if family == "llava":
        return {"input_ids": ids, "pixel_values": torch.stack(pixels)}
    grids = [(1, 2 * item.patches.grid[0], 2 * item.patches.grid[1]) for item in inputs]
    return {
        "input_ids": ids,
        "pixel_values": torch.cat(pixels),
        "image_grid_thw": torch.tensor(grids),
        "mm_token_type_ids": (ids == checkpoint.hf_config.image_token_id).int(),
    }


@torch.inference_mode()
def test_split_layers_equal_the_whole_model(
    family, pipeline, checkpoint, hf_model, coarse, picture, two_turns
):
    prompt, inputs, visuals = coarse(two_turns, [picture(200, 150), picture(90, 260, seed=1)])
    expected = hf_model(**hf_inputs(family, prompt, inputs, checkpoint)).logits[0, -1]
    state = pipeline.gate.run([PrefillInput(prompt, visuals)])[0].state
    cache = pipeline.decoder.new_cache(1, len(prompt.ids) + 8)
    logits = pipeline.decoder.resume(cache, [ResumeInput(cache.alloc(), state)])[0]
    assert torch.allclose(logits, expected, atol=ATOL, rtol=0)


@torch.inference_mode()
def test_decoding_with_a_cache_equals_running_the_whole_sequence_again(
    family, pipeline, checkpoint, hf_model, coarse, picture
):
    prompt, inputs, visuals = coarse(single_question("What is it?"), [picture(200, 150)])
    state = pipeline.gate.run([PrefillInput(prompt, visuals)])[0].state
    cache = pipeline.decoder.new_cache(1, len(prompt.ids) + 8)
    slot = cache.alloc()
    logits = pipeline.decoder.resume(cache, [ResumeInput(slot, state)])[0]
    given = hf_inputs(family, prompt, inputs, checkpoint)
    for _ in range(6):
        expected = hf_model(**given).logits[0, -1]
        assert torch.allclose(logits, expected, atol=ATOL, rtol=0)
        token = int(logits.argmax())
        logits = pipeline.decoder.step(cache, [slot], [token])[0]
        given["input_ids"] = torch.cat([given["input_ids"], torch.tensor([[token]])], dim=1)
        if "mm_token_type_ids" in given:
            types = given["mm_token_type_ids"]
            given["mm_token_type_ids"] = torch.cat([types, types.new_zeros(1, 1)], dim=1)


@pytest.mark.parametrize("image", [0, 1])
@torch.inference_mode()
def test_zooming_with_a_reused_prefix_equals_a_full_second_prefill(
    pipeline, hf_model, coarse, picture, two_turns, image
):
    images = [picture(200, 150), picture(90, 260, seed=1)]
    prompt, _, visuals = coarse(two_turns, images)
    state = pipeline.gate.run([PrefillInput(prompt, visuals)])[0].state
    proposal = chosen(pipeline, prompt, image)
    roi = pipeline.encoder.encode([pipeline.encoder.prepare_roi(images[image], proposal)])[0]
    later = tuple(visuals[image + 1 :])
    cache = pipeline.decoder.new_cache(1, 2000)
    slot = cache.alloc()
    logits = pipeline.decoder.resume(
        cache, [ResumeInput(slot, state, Roi(proposal, roi.grid, roi, later))]
    )[0]

    mrope = pipeline.checkpoint.family != "llava"
    tail = zoom_tail(prompt, proposal, roi.grid, pipeline.checkpoint.qzoom, mrope=mrope)
    ids = np.concatenate([prompt.ids[: tail.kept], tail.ids])
    positions = np.concatenate([prompt.positions[:, : tail.kept], tail.positions], axis=1)
    in_order = [*visuals[: image + 1], roi, *later]
    expected = whole_model(hf_model, pipeline.checkpoint, ids, positions, in_order)
    assert torch.allclose(logits, expected, atol=ATOL, rtol=0)

    token = int(logits.argmax())
    logits = pipeline.decoder.step(cache, [slot], [token])[0]
    ids = np.append(ids, np.int32(token))
    positions = np.concatenate([positions, positions[:, -1:] + 1], axis=1)
    expected = whole_model(hf_model, pipeline.checkpoint, ids, positions, in_order)
    assert torch.allclose(logits, expected, atol=ATOL, rtol=0)


def chosen(pipeline, prompt, image):
    """A region in the middle of one picture."""
    span = prompt.spans[image]
    smoothed = np.zeros(span.grid, np.float32)
    smoothed[1:-1, 1:-1] = 0.9
    proposal = pipeline.rpn.finder.find(span, smoothed, 0.5)
    assert proposal is not None
    return proposal


def whole_model(hf_model, checkpoint, ids, positions, visuals):
    """Logits after a sequence with our positions, by transformers' language model alone."""
    tokens = torch.from_numpy(ids).long()
    is_visual = tokens == checkpoint.hf_config.image_token_id
    embedded = hf_model.get_input_embeddings()(tokens)
    features = torch.cat([visual.features for visual in visuals], dim=1)
    embedded[is_visual] = features[0]
    extra = {}
    at = torch.from_numpy(positions)[:, None]
    if checkpoint.family == "llava":
        at = at[0].long()
    elif checkpoint.family == "qwen3_vl":
        extra = {"visual_pos_masks": is_visual[None], "deepstack_visual_embeds": features[1:]}
    hidden = hf_model.model.language_model(
        inputs_embeds=embedded[None], position_ids=at, **extra
    ).last_hidden_state
    return hf_model.lm_head(hidden[0, -1])
