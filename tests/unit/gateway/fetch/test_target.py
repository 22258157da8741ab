"""A URL is parsed once; what parsers read differently is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fetch.target import parse_target
from qzoom.errors import InvalidRequest


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("https://example.com/a.png", "example.com", 443, "example.com"),
        ("HTTPS://EXAMPLE.com:443/a#f", "example.com", 443, "example.com"),
        ("http://example.com", "example.com", 80, "example.com"),
        ("https://example.com:8443/", "example.com", 8443, "example.com:8443"),
        ("https://bücher.example/x", "xn--bcher-kva.example", 443, "xn--bcher-kva.example"),
        ("https://1.1.1.1/x", "1.1.1.1", 443, "1.1.1.1"),
        ("https://[2606:4700::1111]:8443/", "2606:4700::1111", 8443, "[2606:4700::1111]:8443"),
        ("https://evil.example#@good.example/", "evil.example", 443, "evil.example"),
        ("https://evil.example?@good.example/", "evil.example", 443, "evil.example"),
        ("https://evil.example/@good.example/", "evil.example", 443, "evil.example"),
    ],
)
def test_the_parts_of_a_url(url, host, port, authority):
    target = parse_target(url, "p")
    assert (target.host, target.port, target.authority) == (host, port, authority)
    assert not target.url.fragment


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@example.com/",
        "https://example.com%2f@evil.example/",
        "https://example.com:80@evil.example/",
        "https://example.com\\@evil.example/",
        "https://evil.example\\.example.com/",
        "https://exa mple.com/",
        "https://example.com/\r\nX-Injected: 1",
        "https://example.com/\x00",
        "https://example.com\t/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:443:80/",
        "https://example.com./",
        "https://localhost/",
        "https://metadata/",
        "https:///etc/passwd",
        "https://",
        "https:example.com/x",
        "https://a..b.example/",
        "https://-a.example/",
        "https://" + "a" * 64 + ".example/",
        "https://" + "a." * 130 + "example/",
        "https://%6c%6fcalhost/",
        "https://127.0.0.1%2eexample.com/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://127.1/",
        "https://127.0.1/",
        "https://0/",
        "https://1.2.3.4.5/",
        "https://256.1.1.1/",
        "https://1.2.3.4.0x5/",
        "https://[127.0.0.1]/",
        "https://[::1].example.com/",
        "https://[::1/",
        "https://[v1.x]/",
        "ftp://example.com/a.png",
        "file:///etc/passwd",
        "gopher://example.com/",
        "//example.com/a.png",
        "example.com/a.png",
        "",
    ],
)
def test_what_is_malformed_or_ambiguous_is_refused(url):
    with pytest.raises(InvalidRequest, match=r"^p\.url ") as error:
        parse_target(url, "p")
    assert error.value.param == "p.url"
    assert "secret" not in error.value.message


@given(st.text(max_size=60).map("https://".__add__) | st.text(max_size=30))
@settings(max_examples=1000)
def test_any_text_has_a_plain_host_or_is_refused(text):
    try:
        target = parse_target(text, "p")
    except InvalidRequest:
        return
    assert target.host.isascii()
    assert target.address is not None or "." in target.host
    assert not set(target.host) & set("@/\\?# %\r\n")
