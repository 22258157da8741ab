"""API keys: random, kept as digests, bound to a tenant."""

import re
from dataclasses import asdict

import pytest

from qzoom.errors import InvalidRequest
from qzoom.store.api_keys import belongs, key_id, new_key


def test_a_key_is_random_and_its_record_lets_nobody_in():
    key, record = new_key("acme", "laptop", 100.0)
    other, _ = new_key("acme", "laptop", 100.0)

    assert key != other
    assert re.fullmatch(r"qz-[0-9a-f]{12}-[A-Za-z0-9_-]{43}", key)
    secret = key.split("-", 2)[2]
    assert secret not in repr(asdict(record))
    assert key_id(key) == record.id
    assert belongs(key, record)
    assert not belongs(other, record)


def test_a_key_that_was_changed_belongs_to_nobody():
    key, record = new_key("acme", "", 100.0)

    assert not belongs(key[:-1] + ("A" if key[-1] != "A" else "B"), record)
    assert not belongs(record.digest, record)


def test_a_key_lives_until_it_expires_or_is_revoked():
    _, forever = new_key("acme", "", 100.0)
    _, short = new_key("acme", "", 100.0, lifetime_s=10)

    assert forever.is_valid(1e12)
    assert short.is_valid(109.9)
    assert not short.is_valid(110.0)


@pytest.mark.parametrize("text", ["", "none", "qz-", "qz-12-34", "sk-abc", "qz-" + "x" * 60, "\0"])
def test_what_has_not_the_form_of_a_key_has_no_id(text):
    assert key_id(text) is None


@pytest.mark.parametrize("tenant", ["", "-a", "a.b", "a:b", "a b", "\N{SNOWMAN}", "x" * 64])
def test_a_tenant_has_a_plain_name(tenant):
    with pytest.raises(InvalidRequest, match="must be 1 to 63 letters"):
        new_key(tenant, "", 100.0)
