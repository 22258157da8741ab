"""What the operator writes decides what may be fetched."""

import pytest

from gateway.fetch.policy import FetchPolicy
from gateway.fetch.target import parse_target
from qzoom.errors import Forbidden

LIST = "images.example.com, *.cdn.example, files.example.net:8443, 1.1.1.1"


def allows(policy: FetchPolicy, url: str) -> bool:
    refusal = None
    try:
        policy.check(parse_target(url, "p"), "p")
    except Forbidden as error:
        refusal = error
    assert refusal is None or refusal.param == "p.url"
    return refusal is None


def test_by_default_nothing_is_on():
    assert not FetchPolicy().is_on
    assert FetchPolicy.parse("off") == FetchPolicy()


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://images.example.com/a.png", True),
        ("https://IMAGES.example.com:443/a.png", True),
        ("https://images.example.com:8443/a.png", False),
        ("https://images.example.com.evil.example/", False),
        ("https://evil-images.example.com/", False),
        ("https://sub.images.example.com/", False),
        ("https://a.cdn.example/", True),
        ("https://a.b.cdn.example/", True),
        ("https://cdn.example/", False),
        ("https://evilcdn.example/", False),
        ("https://files.example.net:8443/", True),
        ("https://files.example.net/", False),
        ("https://1.1.1.1/", True),
        ("https://1.1.1.2/", False),
        ("http://images.example.com/", False),
    ],
)
def test_a_list_allows_what_it_names(url, allowed):
    assert allows(FetchPolicy.parse(LIST), url) is allowed


def test_http_is_an_extra_choice():
    assert allows(FetchPolicy.parse(LIST, allow_http=True), "http://images.example.com/")
    assert not allows(FetchPolicy.parse("public"), "http://example.com/")
    assert allows(FetchPolicy.parse("public", allow_http=True), "http://example.com/")


def test_public_means_all_hosts_at_the_usual_ports():
    policy = FetchPolicy.parse("public")
    assert allows(policy, "https://anything.example/")
    assert not allows(policy, "https://anything.example:22/")
    assert not allows(policy, "https://anything.example:6379/")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.example,",
        "public, a.example",
        "off,public",
        "https://a.example",
        "a.example/path",
        "*",
        "*.",
        "*.1.1.1.1",
        "a.*.example",
        "user@a.example",
        "a.example:0",
        "localhost",
        "a b",
    ],
)
def test_a_list_that_makes_no_sense_is_refused(text):
    with pytest.raises(ValueError, match="is no host"):
        FetchPolicy.parse(text)
