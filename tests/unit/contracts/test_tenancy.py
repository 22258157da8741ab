"""Tenants share no cached state."""

from hypothesis import given
from hypothesis import strategies as st

from qzoom.contracts.tenancy import cache_salt


@given(st.text(max_size=64), st.text(max_size=64))
def test_two_tenants_have_two_salts(one: str, other: str):
    assert (cache_salt(one) == cache_salt(other)) == (one == other)


def test_a_salt_survives_a_restart():
    known = "670ce4922ded47293d42dfb598c204f06d213bf00d4b8e47163fc9573060c8f1"

    assert cache_salt("acme").hex() == known
