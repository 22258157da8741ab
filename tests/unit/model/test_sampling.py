import pytest
import torch

from qzoom.contracts.sampling import Sampling
from qzoom.model.sampling import Sampler, draw_tokens

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def draws(count=400, **values):
    sampler = Sampler(Sampling(**values))
    return [sampler.draw(LOGITS) for _ in range(count)]


def test_temperature_zero_takes_the_likeliest_token():
    assert set(draws(temperature=0.0, count=5)) == {0}


def test_equal_seeds_draw_equal_tokens_and_others_do_not():
    assert draws(temperature=1.0, seed=3) == draws(temperature=1.0, seed=3)
    assert draws(temperature=1.0, seed=3) != draws(temperature=1.0, seed=4)


def test_a_request_without_a_seed_gets_its_own():
    assert draws(temperature=1.0) != draws(temperature=1.0)


def test_draws_follow_the_probabilities():
    counts = torch.bincount(torch.tensor(draws(4000, temperature=1.0, seed=0)), minlength=4)
    assert torch.allclose(counts / 4000, LOGITS.exp(), atol=0.03)


@pytest.mark.parametrize(
    ("top_p", "nucleus"), [(0.3, {0}), (0.5, {0}), (0.51, {0, 1}), (0.9, {0, 1, 2})]
)
def test_top_p_keeps_the_smallest_set_that_reaches_the_mass(top_p, nucleus):
    assert set(draws(temperature=1.0, top_p=top_p, seed=1)) == nucleus


def test_a_low_temperature_sharpens():
    assert draws(temperature=0.2, seed=0).count(0) > draws(temperature=2.0, seed=0).count(0)


def test_a_row_draws_the_same_in_any_batch():
    logits = torch.stack([LOGITS, LOGITS.flip(0), LOGITS])
    settings = [
        Sampling(temperature=1.0, seed=1),
        Sampling(),
        Sampling(temperature=0.7, top_p=0.9, seed=2),
    ]
    together = [Sampler(s) for s in settings]
    rounds = [draw_tokens(logits, together) for _ in range(20)]
    for row, setting in enumerate(settings):
        alone = Sampler(setting)
        assert [r[row] for r in rounds] == [alone.draw(logits[row]) for _ in range(20)]
