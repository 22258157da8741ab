import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.labels.regions import Evidence, RegionRules, label_cells, resample


def evidence(attention, sink_mass=None, norms=None, padding=None):
    attention = np.asarray(attention, np.float32)
    zeros = np.zeros_like(attention)
    return Evidence(
        attention,
        zeros if sink_mass is None else np.asarray(sink_mass, np.float32),
        zeros + 1 if norms is None else np.asarray(norms, np.float32),
        zeros.astype(bool) if padding is None else np.asarray(padding, bool),
    )


def test_three_states_as_in_equation_12():
    # tau_fg .2 of the peak .5: .2 and .11 are foreground, and so is a box around them.
    attention = [
        [0.5, 0.06, 0.0, 0.02],
        [0.09, 0.2, 0.0, 0.03],
        [0.0, 0.0, 0.024, 0.026],
    ]
    labels, box = label_cells(evidence(attention), (3, 4), RegionRules())
    assert box == (0, 0, 2, 2)
    assert labels.tolist() == [[1, -1, 0, 0], [-1, 1, 0, -1], [0, 0, 0, -1]]


def test_equal_thresholds_leave_no_middle_outside_the_box():
    attention = np.random.default_rng(0).random((6, 6)) ** 4
    labels, box = label_cells(evidence(attention), (6, 6), RegionRules(tau_fg=0.2, tau_bg=0.2))
    outside = np.ones((6, 6), bool)
    outside[box[1] : box[3], box[0] : box[2]] = False
    assert (labels[outside] == 0).all()


@pytest.mark.parametrize("rule", ["norm", "mass"])
def test_sinks_are_no_foreground(rule):
    attention = np.full((4, 4), 0.001)
    attention[3, 3], attention[1, 1] = 0.6, 0.2
    sink = np.zeros((4, 4))
    sink[3, 3] = 1
    given_ = evidence(attention, sink_mass=sink * 0.02, norms=1 + 9 * sink)
    labels, box = label_cells(given_, (4, 4), RegionRules(sinks=rule))
    assert box == (1, 1, 2, 2)
    assert labels[3, 3] == 0
    ignored, _ = label_cells(given_, (4, 4), RegionRules(sinks=rule, sinks_are_background=False))
    assert ignored[3, 3] == -1
    unfiltered, box = label_cells(given_, (4, 4), RegionRules(sinks="none"))
    assert unfiltered[3, 3] == 1
    assert box == (1, 1, 4, 4)


def test_published_rules():
    attention = np.zeros((8, 8))
    attention[3, 3] = 0.004
    rules = RegionRules(dilate=1)
    labels, _ = label_cells(evidence(attention), (8, 8), rules)
    assert (labels == -1).sum() == 8
    assert labels[3, 3] == 1
    assert label_cells(evidence(attention), (8, 8), RegionRules(min_mass=5e-3))[1] is None
    attention[:] = 0.004
    labels, box = label_cells(evidence(attention), (8, 8), RegionRules(max_area=0.5))
    assert box is None
    assert (labels == -1).all()


def test_padding_is_background_even_inside_the_box():
    attention = np.zeros((4, 4))
    attention[1, 1] = attention[3, 1] = 0.3
    attention[2, 1] = 0.5
    padding = np.zeros((4, 4), bool)
    padding[2] = True
    labels, box = label_cells(evidence(attention, padding=padding), (4, 4), RegionRules())
    assert box == (1, 1, 2, 4)
    assert (labels[2] == 0).all()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_resampling_keeps_the_mass(height, width, new_height, new_width):
    values = np.random.default_rng(height).random((height, width)).astype(np.float32)
    found = resample(values, (new_height, new_width))
    assert found.shape == (new_height, new_width)
    assert found.sum() == pytest.approx(values.sum(), rel=1e-4)


def test_resampling_by_whole_numbers_sums_blocks():
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_allclose(resample(values, (2, 2)), [[10, 18], [42, 50]])
    np.testing.assert_allclose(resample(values, (4, 4)), values)


@pytest.mark.parametrize("values", [{"tau_fg": 1.5}, {"tau_bg": 0.3}, {"max_area": 0.0}])
def test_rules_name_what_is_wrong(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        RegionRules(**values)
