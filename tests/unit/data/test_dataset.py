import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.data import app
from qzoom.data.dataset import example, write_dataset
from qzoom.data.fonts import FONT_NAMES, font_path
from qzoom.data.render import icon_mask, render
from qzoom.data.vocabulary import SHAPES


def test_two_font_families_are_installed():
    assert len({font_path(name).parent for name in FONT_NAMES}) == 2


def test_pictures_are_reproducible():
    scene, image, _ = example("val", 3, 1)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(render(scene)))
    assert image.size == (scene.width, scene.height)


def test_the_printed_code_lies_in_its_box():
    for index in range(10):
        scene, image, _ = example("test", 0, index)
        grey = np.asarray(image.convert("L")).astype(int)
        for item in scene.items:
            x0, y0, x1, y1 = (int(v) for v in item.code_px)
            assert grey[y0:y1, x0:x1].min() < 130  # ink on pale paper


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_fill_their_square(shape):
    mask = np.asarray(icon_mask(shape, 40))
    assert mask.max() == 255
    assert 0.2 < (mask > 127).mean() < 0.95


def test_dataset_on_disk(tmp_path):
    assert list(write_dataset(tmp_path, "val", 0, 3, "jpeg")) == [1, 2, 3]
    records = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()]
    assert len({record["image"] for record in records}) == 3
    for record in records:
        with Image.open(tmp_path / record["image"]) as image:
            assert image.format == "JPEG"
        assert record["answer"]
        assert record["split"] == "val"


def test_data_sets_of_different_seeds_differ():
    assert example("val", 0, 0)[0] != example("val", 1, 0)[0]
    with pytest.raises(ValueError, match="index"):
        example("val", 0, 1 << 20)


def test_commands(tmp_path):
    runner = CliRunner()
    made = runner.invoke(app, ["make", str(tmp_path / "set"), "--split", "test", "--count", "2"])
    assert made.exit_code == 0, made.output
    assert (tmp_path / "set/images/000001.png").is_file()
    shown = runner.invoke(app, ["show", str(tmp_path / "sheet.png"), "--count", "2"])
    assert shown.exit_code == 0, shown.output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 400
