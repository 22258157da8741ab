"""Asked again only where that is safe, and not before the server wants."""

import pytest

from qzoom.client import BrokenAnswer, NotConnected, Retries
from qzoom.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    QZoomError,
    StateLost,
    Unavailable,
)


@pytest.mark.parametrize("kind", [Overloaded, Unavailable, StateLost, NotConnected])
def test_what_was_not_begun_is_asked_again(kind):
    assert Retries().pause_s(kind("x"), 1, 60.0) is not None


@pytest.mark.parametrize(
    "kind", [InvalidRequest, NotFound, DeadlineExceeded, BrokenAnswer, QZoomError]
)
def test_what_may_have_been_answered_is_not(kind):
    assert Retries().pause_s(kind("x"), 1, 60.0) is None


def test_pauses_grow_and_are_bounded():
    retries = Retries(most=20, first_s=0.5, longest_s=4.0)
    for tried in range(1, 21):
        grown = min(4.0, 0.5 * 2 ** (tried - 1))
        pauses = [retries.pause_s(Unavailable("x"), tried, 60.0) for _ in range(50)]
        assert all(grown / 2 <= pause <= grown for pause in pauses)
        assert len(set(pauses)) > 1, "clients must not come back together"
    assert retries.pause_s(Unavailable("x"), 21, 60.0) is None


def test_the_servers_wish_is_a_lower_bound():
    retries = Retries()
    for _ in range(50):
        assert retries.pause_s(Overloaded("x", retry_after_s=3), 1, 60.0) >= 3
    assert retries.pause_s(Overloaded("x", retry_after_s=3), 1, 2.0) is None, "too late"
    assert retries.pause_s(Overloaded("x", retry_after_s=3600), 1, 9999.0) is None, "too long"
    assert Retries(most=0).pause_s(Overloaded("x", retry_after_s=1), 1, 60.0) is None
