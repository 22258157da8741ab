"""What the operator chooses becomes the gateway's limits, or stops the start."""

import pytest
from pydantic import ValidationError

from gateway.fetch.fetcher import FetchLimits
from gateway.fetch.policy import HostRule
from gateway.images.limits import ImageLimits
from gateway.settings import GatewaySettings
from qzoom.contracts.request import Limits


def test_without_a_choice_the_limits_are_the_documented_ones():
    settings = GatewaySettings(model_name="m")
    assert settings.request_limits() == Limits()
    assert settings.image_limits() == ImageLimits()


def test_each_limit_can_be_chosen_by_a_variable(monkeypatch):
    monkeypatch.setenv("QZOOM_GATEWAY_MAX_TOKENS", "512")
    monkeypatch.setenv("QZOOM_GATEWAY_MAX_PIXELS", "1000000")
    monkeypatch.setenv("QZOOM_GATEWAY_DECODE_TIMEOUT_S", "12.5")
    settings = GatewaySettings(model_name="m", max_images=3)
    assert settings.request_limits() == Limits(max_tokens=512, max_images=3)
    assert settings.image_limits() == ImageLimits(max_pixels=1_000_000, decode_timeout_s=12.5)


def test_remote_images_are_off_unless_they_are_chosen(monkeypatch):
    assert not GatewaySettings(model_name="m").fetch_policy().is_on
    monkeypatch.setenv("QZOOM_GATEWAY_REMOTE_IMAGES", "a.example, *.b.example:8443")
    policy = GatewaySettings(model_name="m", remote_images_http=True).fetch_policy()
    assert policy.hosts == (HostRule("a.example"), HostRule("*.b.example", 8443))
    assert policy.allow_http
    limits = GatewaySettings(model_name="m", fetch_timeout_s=3, max_fetches=7).fetch_limits()
    assert limits == FetchLimits(timeout_s=3, max_running=7)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"max_tokens": 100}, "default_max_tokens is 256, above max_tokens, which is 100"),
        ({"max_deadline_ms": 1}, "default_deadline_ms is 120000, above max_deadline_ms"),
        ({"max_image_bytes": 2**26}, "max_image_bytes is 67108864, above max_body_bytes"),
        ({"max_pixels": 10**8}, "max_pixels is 100000000, above max_request_pixels"),
        ({"max_images": 0}, "greater than or equal to 1"),
        ({"decode_processes": 0}, "greater than or equal to 1"),
        ({"remote_images": "https://a.example/"}, "is no host"),
        ({"remote_images": ""}, "is no host"),
    ],
)
def test_limits_that_make_no_sense_stop_the_start(choice, message):
    with pytest.raises(ValidationError, match=message):
        GatewaySettings(model_name="m", **choice)
