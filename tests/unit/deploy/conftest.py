"""The chart rendered with each set of profiles, once for all tests."""

import copy
from functools import cache

import pytest

from deploy.k8s.manifest import Manifest
from deploy.k8s.render import render
from deploy.k8s.values import load_values

PROFILES = [("local",), ("gpu",), ("gpu", "ha"), ("ha",), ()]


@cache
def _rendered(profiles: tuple[str, ...], settings: tuple[str, ...]) -> list[Manifest]:
    return render(load_values(profiles, settings), "qzoom", "qzoom")


@pytest.fixture
def rendered():
    """Render profiles and settings; the objects may be changed by the test."""

    def make(*profiles: str, settings: tuple[str, ...] = ()) -> list[Manifest]:
        return copy.deepcopy(_rendered(profiles, settings))

    return make


@pytest.fixture(params=PROFILES, ids=lambda profiles: "+".join(profiles) or "defaults")
def profile(request: pytest.FixtureRequest, rendered) -> list[Manifest]:
    """The objects of each set of profiles."""
    return rendered(*request.param)
