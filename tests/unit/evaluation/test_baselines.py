import json

import numpy as np
import pytest
import torch
from transformers import (
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    SwinConfig,
)

from evaluation.answerers import Asked
from evaluation.answerers.local import LocalAnswerer, open_pipeline
from evaluation.baselines.attention import AttentionCrop
from evaluation.baselines.registry import UNTRAINED, open_rival
from evaluation.baselines.rival import RivalAnswerer, SecondLook, cells_of, grown
from evaluation.baselines.tiling import tile_grid, tiles, with_pictures
from evaluation.baselines.vicrop import ViCrop, best_window
from evaluation.dataset import open_dataset
from evaluation.modes import Mode
from evaluation.run import evaluate
from qzoom.builtin import builtin_model
from qzoom.contracts.conversation import Picture, single_question
from qzoom.contracts.options import Options
from qzoom.errors import InvalidRequest
from qzoom.model.pipeline import Question


@pytest.fixture(scope="module")
def pipeline():
    return open_pipeline(builtin_model())


@pytest.fixture(scope="module")
def data():
    return open_dataset("builtin:test?seed=9", questions=6)


def asked_of(record, **options):
    return Asked(record.picture, record.conversation(), Options(**options), 8)


@pytest.mark.parametrize("name", UNTRAINED)
def test_every_rival_answers_and_pays(pipeline, data, name):
    rival = open_rival(name, pipeline, general="what is in the picture?")
    answerer = RivalAnswerer(rival, {"model": "builtin"})
    results = list(evaluate(answerer, data, Mode("base", label=rival.name)))
    assert len(results) == 6
    assert all(r.answer and not r.error and r.cpu_s > 0 for r in results)
    assert answerer.about()["rival"] == rival.name


def test_a_second_look_with_the_rpns_box_is_qzooms_own(pipeline, data):
    """Whatever a rival's box does, it does by the same second look."""
    zoomed = list(evaluate(LocalAnswerer(pipeline, batch=1), data, Mode("zoom", tau_roi=0.05)))
    second = SecondLook.over(pipeline)
    looked = 0
    for record, own in zip(data.records, zoomed, strict=True):
        if own.box_px is None:
            continue
        box = tuple(int(v) for v in own.box_px)
        answer = second.look(record.picture.load(), asked_of(record), box)
        assert (answer.text, answer.route, answer.num_roi_tokens) == (
            own.answer, "zoom", own.roi_tokens,
        )  # fmt: skip
        looked += 1
    assert looked
    direct = second.look(data.records[0].picture.load(), asked_of(data.records[0]), None)
    assert direct.route == "direct"


def test_scales_change_the_features_and_not_their_number(pipeline, data):
    mean, plain = open_rival("scales", pipeline), LocalAnswerer(pipeline, batch=1)
    record = data.records[0]
    asked = asked_of(record, route="direct")
    answer, base = mean.answer(record.picture.load(), asked), next(plain.answer_all([asked]))
    assert answer.num_coarse_tokens == base.coarse_tokens
    question = Question(record.conversation(), [record.picture.load()])
    [[fine]] = mean._pipeline._encode_coarse([question])
    [[coarse]] = pipeline._encode_coarse([question])
    assert fine.grid == coarse.grid
    assert not torch.allclose(fine.features, coarse.features)


def test_tiles_cover_the_picture_once():
    pixels = np.arange(7 * 10 * 3, dtype=np.uint8).reshape(7, 10, 3)
    assert tile_grid((1000, 1000), 4) == (2, 2)
    assert tile_grid((2000, 1000), 4) == (1, 2)
    assert tile_grid((300, 1000), 4) == (3, 1)
    cut = tiles(pixels, (2, 2))
    assert sum(tile.size for tile in cut) == pixels.size
    again = np.concatenate([np.concatenate(cut[:2], axis=1), np.concatenate(cut[2:], axis=1)])
    np.testing.assert_array_equal(again, pixels)
    turns = with_pictures(single_question("What?"), 3)
    assert turns[0].parts[:3] == (Picture(0), Picture(1), Picture(2))
    assert turns[0].parts[3].text == "What?"


def test_the_window_lies_on_what_stands_out():
    values = np.ones((12, 12), np.float32)
    values[2:6, 7:11] = 5
    assert best_window(values) == (7, 2, 11, 6)
    assert best_window(np.ones((1, 1), np.float32)) == (0, 0, 1, 1)


def test_attention_maps_have_the_picture_s_grid_and_sum_to_a_share(pipeline, data):
    record = data.records[0]
    vicrop = ViCrop(pipeline, general="what is in the picture?")
    row = vicrop._last_row(record.picture.load(), asked_of(record), None, None)
    assert row.ndim == 2
    assert 0 < row.sum() <= 1.0
    same = ViCrop(pipeline, general=record.question)
    own = same._last_row(record.picture.load(), asked_of(record), None, None)
    general = same._last_row(record.picture.load(), asked_of(record), record.question, None)
    np.testing.assert_array_equal(own, general)
    box = AttentionCrop(pipeline, layers=[5, 6]).region(record.picture.load(), asked_of(record))
    assert box is None or (box[0] < box[2] and box[1] < box[3])


def test_boxes_are_grown_and_kept_inside():
    assert grown((10, 10, 12, 12), (100, 50), 28) == (0, 0, 28, 28)
    assert grown((90.5, 40, 99, 49), (100, 50), 28) == (72, 22, 100, 50)
    assert grown((0, 0, 5, 5), (20, 10), 28) == (0, 0, 20, 10)
    assert cells_of((0, 0, 10, 10), (100, 50), (5, 10)) == (0, 0, 1, 1)
    assert cells_of((95, 45, 100, 50), (100, 50), (5, 10)) == (9, 4, 10, 5)
    assert cells_of((0, 0, 100, 50), (100, 50), (5, 10)) == (0, 0, 10, 5)


def test_unknown_rivals_and_missing_weights_are_named(pipeline, tmp_path):
    with pytest.raises(InvalidRequest, match="'sam'"):
        open_rival("sam", pipeline)
    with pytest.raises(InvalidRequest, match="needs a folder"):
        open_rival("dino1", pipeline)
    with pytest.raises(InvalidRequest, match="no GroundingDINO"):
        open_rival("dino2", pipeline, detector=tmp_path)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A small GroundingDINO with random weights, saved as transformers saves one."""
    folder = tmp_path_factory.mktemp("dino")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "what", "is", "the", "red"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizer(vocab_file=str(folder / "vocab.txt"))
    backbone = SwinConfig(
        image_size=64, patch_size=4, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2],
        window_size=4, out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    text = {"model_type": "bert", "vocab_size": len(words), "hidden_size": 32,
            "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=backbone, text_config=text, d_model=32, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, num_queries=10, num_feature_levels=4,
    )  # fmt: skip
    torch.manual_seed(0)
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({
            "image_processor_type": "GroundingDinoImageProcessor",
            "processor_class": "GroundingDinoProcessor", "size": {"shortest_edge": 64,
            "longest_edge": 96}, "do_resize": True, "do_normalize": True, "do_rescale": True,
            "rescale_factor": 1 / 255, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
            "do_pad": True, "format": "coco_detection",
        })
    )  # fmt: skip
    return folder


def test_a_detector_proposes_boxes(pipeline, data, detector):
    record = data.records[0]
    pixels = record.picture.load()
    found = {}
    for name in ("dino1", "dino2"):
        rival = open_rival(name, pipeline, detector=detector)
        rival._threshold = 0.0
        found[name] = rival.region(pixels, asked_of(record))
        answer = rival.answer(pixels, asked_of(record))
        assert answer.route == "zoom"
        assert answer.proposal.box_px == found[name]
    one, two = found["dino1"], found["dino2"]
    assert two[0] <= one[0] < one[2] <= two[2]
    assert two[1] <= one[1] < one[3] <= two[3]
    rival._threshold = 1.1
    assert rival.region(pixels, asked_of(record)) is None
    assert rival.answer(pixels, asked_of(record)).route == "direct"
