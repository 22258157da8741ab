"""All reference vectors pass, and any vector that is changed fails."""

import json
import shutil

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from cli.console import CommandGroup
from cli.verify import verify as verify_command
from qzoom.model.verify import find_cases, read_case, verify_case

APP = typer.Typer(cls=CommandGroup)
APP.command("verify")(verify_command)
APP.command("other")(lambda: None)


def run(*arguments):
    return CliRunner().invoke(APP, ["verify", *map(str, arguments)], env={"COLUMNS": "400"})


@pytest.fixture(scope="session")
def reference(project_root):
    return project_root / "tests" / "reference"


def test_published_code_and_ours_agree(reference):
    result = run(reference, "--preset", "released")

    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) == 11
    assert all(line.startswith("ok") for line in lines[:10])
    for quantity in ("gate", "roi logits", "smoothed", "box", "positions", "logits", "ids"):
        assert all(f"  {quantity} " in line for line in lines[:10])


@pytest.fixture
def folder_of(reference, tmp_path):
    """Copy one case and its checkpoint: `folder_of(family, case)`."""

    def copy(family, name):
        source, target = reference / family, tmp_path / name
        target.mkdir()
        for path in source.glob(f"{name}.*"):
            shutil.copy(path, target)
        checkpoint = json.loads((source / f"{name}.json").read_text())["checkpoint"]
        shutil.copytree(source / checkpoint, target / checkpoint)
        return target

    return copy


CASES = {
    "qwen2_5_vl": "q25_s2_roi_sequential",
    "qwen3_vl": "q3_s1_roi_reuse_sink",
    "llava": "llava_s3_mask_components",
}
FLOATS = {
    "roi_logits": 1e-4,
    "smoothed": 5e-5,
    "logits": 2e-4,
    "roi_feats": 2e-4,
    "pos_after": 1e-3,
    "pos_before": 1e-3,
    "prob_masked": 2e-3,
    "roi_deepstack": 2e-4,
    "image_feats_every24": 2e-4,
}


def arrays_of(family):
    return {
        "qwen2_5_vl": [
            *("roi_logits", "prob_masked", "smoothed", "logits", "roi_feats", "image_grid_thw"),
            *("generated_ids", "bbox_cells", "bbox_pixels", "roi_grid_thw", "ids_after"),
            *("pos_before", "pos_after", "inserted"),
        ],
        "qwen3_vl": ["roi_deepstack", "sink_keep", "logits", "roi_logits"],
        "llava": [
            *("roi_logits", "smoothed", "logits", "roi_feats", "image_feats_every24", "mask"),
            *("generated_ids", "component_boxes", "bbox_cells", "bbox_pixels", "kept", "pos_after"),
        ],
    }[family]


@pytest.mark.parametrize(
    ("family", "array"), [(family, array) for family in CASES for array in arrays_of(family)]
)
def test_changed_array_fails(folder_of, family, array):
    folder = folder_of(family, CASES[family])
    path = folder / f"{CASES[family]}.npz"
    with np.load(path) as file:
        arrays = dict(file)
    flat = arrays[array].reshape(-1).copy()
    middle = len(flat) // 2
    if flat.dtype.kind == "f":
        flat[middle] += FLOATS[array]
    else:
        flat[middle] = not flat[middle] if flat.dtype == bool else flat[middle] + 1
    arrays[array] = flat.reshape(arrays[array].shape)
    np.savez(path, **arrays)

    result = run(folder)
    assert result.exit_code == 1, result.output
    assert "FAIL" in result.output


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("qwen2_5_vl", {"gate_prob": 0.8248}),
        ("qwen2_5_vl", {"gate_prob": 0.824834}),
        ("qwen2_5_vl", {"gate_thresh": 0.9}),
        ("qwen2_5_vl", {"roi_conf_thresh": 0.35}),
        ("qwen2_5_vl", {"roi_conf_thresh": 0.99}),
        ("qwen2_5_vl", {"reuse_src_pos": True}),
        ("qwen2_5_vl", {"min_pixels": 78400, "max_pixels": 78400}),
        ("qwen2_5_vl", {"fetch_resize_wh": [420, 532]}),
        ("qwen2_5_vl", {"bbox_pixels": [0, 86, 252, 300]}),
        ("qwen2_5_vl", {"path": "direct_empty_mask"}),
        ("qwen3_vl", {"reuse_src_pos": False}),
        ("qwen3_vl", {"generated_ids": [60, 5, 60, 5, 60, 5, 60, 6]}),
        ("llava", {"roi_conf_thresh": 0.6}),
        ("llava", {"path": "single_box"}),
        ("llava", {"path": "no_roi"}),
        ("llava", {"length_after": 758}),
    ],
)
def test_changed_setting_fails(folder_of, family, values):
    folder = folder_of(family, CASES[family])
    path = folder / f"{CASES[family]}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))

    result = run(folder)
    assert result.exit_code == 1, result.output


@pytest.mark.parametrize("picture", ["input", "coarse", "crop"])
@pytest.mark.parametrize("family", CASES)
def test_changed_picture_fails(folder_of, family, picture):
    folder = folder_of(family, CASES[family])
    path = folder / f"{CASES[family]}.{picture}.png"
    pixels = np.array(Image.open(path).convert("RGB"))
    pixels[40:60, 40:60] ^= 64
    Image.fromarray(pixels).save(path)

    assert run(folder).exit_code == 1


def test_another_checkpoint_fails(folder_of):
    folder = folder_of("qwen2_5_vl", CASES["qwen2_5_vl"])
    path = folder / "q25_shared_a" / "config.json"
    config = json.loads(path.read_text()) | {"rms_norm_eps": 1e-3}
    path.write_text(json.dumps(config))

    result = run(folder)
    assert result.exit_code == 1
    assert "FAIL" in result.output


def test_preset_paper_is_another_method(reference):
    assert run(reference / "qwen2_5_vl", "--preset", "paper").exit_code == 1


def remove_array(folder, name):
    path = folder / f"{name}.npz"
    with np.load(path) as file:
        np.savez(path, **{key: value for key, value in file.items() if key != "logits"})


def remove_setting(folder, name):
    path = folder / f"{name}.json"
    settings = json.loads(path.read_text())
    del settings["max_pixels"]
    path.write_text(json.dumps(settings))


def with_settings(**values):
    def change(folder, name):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def with_array(array, change):
    def rewrite(folder, name):
        path = folder / f"{name}.npz"
        with np.load(path) as file:
            np.savez(path, **(dict(file) | {array: change(file[array])}))

    return rewrite


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder, name: (folder / f"{name}.npz").unlink(), "npz cannot be read"),
        (lambda folder, name: (folder / f"{name}.npz").write_bytes(b"PK"), "npz cannot be read"),
        (lambda folder, name: (folder / f"{name}.json").write_text("{"), "json cannot be read"),
        (lambda folder, name: (folder / f"{name}.json").write_text("{}"), "has path None"),
        (lambda folder, name: (folder / f"{name}.json").unlink(), "holds no reference vectors"),
        (lambda folder, name: (folder / f"{name}.crop.png").unlink(), r"crop.png cannot be read"),
        (lambda folder, name: (folder / f"{name}.input.png").write_bytes(b"x"), "cannot be read"),
        (lambda folder, _: shutil.rmtree(folder / "q25_shared_a"), "names the checkpoint"),
        (
            lambda folder, _: (folder / "q25_shared_a" / "model.safetensors").unlink(),
            "holds neither",
        ),
        (remove_array, "npz lacks logits"),
        (remove_setting, "json lacks max_pixels"),
        (with_settings(gate_thresh=None), "gate_thresh None, which is not a number"),
        (with_settings(roi_conf_thresh="0.4"), "roi_conf_thresh '0.4', which is not a number"),
        (with_settings(max_pixels=[1]), "max_pixels [1], which is not a number"),
        (with_settings(pixel_values={}), "pixel_values without shape and sha256"),
        (with_settings(crop_pixel_values=3), "crop_pixel_values without shape and sha256"),
        (with_array("input_ids", lambda ids: ids[None]), "not numbers on 1 axes"),
        (with_array("roi_logits", lambda _: np.array([["x"]])), "roi_logits <U1"),
        (with_array("prob_masked", lambda p: p[None]), "not numbers on 2 axes"),
        (with_array("input_ids", lambda ids: ids + 9000 * (ids == 9)), "exceed the vocabulary"),
        (with_array("generated_ids", lambda ids: ids - 300), "exceed the vocabulary"),
    ],
)
def test_broken_folder_is_named(folder_of, damage, message):
    name = CASES["qwen2_5_vl"]
    folder = folder_of("qwen2_5_vl", name)
    damage(folder, name)

    result = run(folder)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_an_excess_counts_more_than_a_case_that_cannot_be_checked(folder_of, tmp_path):
    for family, change in (("qwen2_5_vl", {"gate_prob": 0.0}), ("qwen3_vl", {"path": "new"})):
        file = folder_of(family, CASES[family]) / f"{CASES[family]}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | change))

    result = run(tmp_path)
    assert result.exit_code == 1
    assert "2 cases, 1 with excess deviations, 1 not checked" in result.output


def test_orphaned_arrays_are_named(folder_of):
    folder = folder_of("llava", CASES["llava"])
    shutil.copy(folder / f"{CASES['llava']}.npz", folder / "more.npz")

    result = run(folder)
    assert result.exit_code == 2
    assert "has no more.json beside it" in " ".join(result.output.split())


def test_missing_and_empty_folders(tmp_path):
    assert run(tmp_path).exit_code == 2
    missing = run(tmp_path / "none")
    assert missing.exit_code == 2
    assert "is not a folder" in " ".join(missing.output.split())


def test_nan_is_never_good(folder_of):
    folder = folder_of("llava", CASES["llava"])
    path = folder / f"{CASES['llava']}.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["logits"][3, 5] = np.nan
    np.savez(path, **arrays)

    report = verify_case(read_case(find_cases(folder)[0]))
    assert not report.is_good


def test_other_json_files_are_no_cases(folder_of):
    folder = folder_of("llava", CASES["llava"])
    (folder / "contents.json").write_text('{"cases": 1}')

    assert [path.stem for path in find_cases(folder)] == [CASES["llava"]]


def test_transparency_is_white_in_the_whole_picture_only(folder_of):
    folder = folder_of("llava", CASES["llava"])
    path = folder / f"{CASES['llava']}.input.png"
    picture = Image.open(path).convert("RGBA")
    picture.putpixel((0, 0), (10, 20, 30, 0))
    picture.save(path)

    case = read_case(folder / f"{CASES['llava']}.json")
    assert case.source[0, 0].tolist() == [10, 20, 30]
    assert case.whole[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(case.source[1:], case.whole[1:])
