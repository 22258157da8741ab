import itertools

import pytest

from qzoom.data.scene import COARSE_PIXELS, MIN_SMALL_PX, sample_scene, sample_small_scene
from qzoom.data.splits import scene_seed

SEEDS = range(60)


def overlap(a, b) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_equal_seeds_give_equal_scenes():
    assert sample_scene(7) == sample_scene(7)
    assert sample_scene(7) != sample_scene(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_items_lie_inside_and_apart(seed):
    scene = sample_scene(seed)
    assert 4 <= len(scene.items) <= 9
    for item in scene.items:
        x0, y0, x1, y1 = item.evidence_px
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= scene.width
        assert y1 <= scene.height
    for a, b in itertools.combinations(scene.items, 2):
        assert not overlap(a.evidence_px, b.evidence_px)


def test_small_print_is_unreadable_coarse_and_large_print_is_readable():
    for seed in SEEDS:
        scene = sample_scene(seed)
        scale = (scene.width * scene.height / COARSE_PIXELS) ** 0.5
        for item in scene.items:
            coarse_px = item.font_px / scale
            assert coarse_px <= 5.2 if item.is_small else coarse_px >= 11.5
            assert item.font_px >= MIN_SMALL_PX


def test_codes_of_a_scene_are_unique_and_both_sizes_occur():
    sizes = set()
    for seed in SEEDS:
        items = sample_scene(seed).items
        assert len({item.code for item in items}) == len(items)
        sizes |= {item.is_small for item in items}
    assert sizes == {True, False}


def test_places_follow_the_picture():
    for seed in SEEDS:
        scene = sample_scene(seed)
        for item in scene.items:
            x = (item.evidence_px[0] + item.evidence_px[2]) / 2 / scene.width
            assert int(x * 3) == item.cell[1]
            assert ("left" in item.place) == (item.cell[1] == 0)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_small_pictures_hold_their_items(count):
    side = 84 if count == 1 else 168
    for seed in SEEDS:
        scene = sample_small_scene(seed, side, count)
        assert len(scene.items) == count
        for item in scene.items:
            assert min(item.evidence_px) >= 0
            assert max(item.evidence_px) <= side


def test_splits_never_meet():
    ends = [(scene_seed(s, 0), scene_seed(s, (1 << 40) - 1)) for s in ("train", "val", "test")]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(ends))
    with pytest.raises(ValueError, match="index is -1"):
        scene_seed("val", -1)
    with pytest.raises(ValueError, match="dev"):
        scene_seed("dev", 0)
