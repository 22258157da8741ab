"""Addresses that name Sentinels: what they mean, and what is wrong with them."""

import pytest

from qzoom.errors import InvalidRequest
from qzoom.store.opening import check_address, open_store
from qzoom.store.redis import RedisStore
from qzoom.store.sentinel import SentinelAddress, parse_sentinel


@pytest.mark.parametrize(
    ("address", "meaning"),
    [
        (
            "redis+sentinel://a:1,b:2,c/qzoom/3",
            SentinelAddress((("a", 1), ("b", 2), ("c", 26379)), "qzoom", 3),
        ),
        ("rediss+sentinel://a/main", SentinelAddress((("a", 26379),), "main", tls=True)),
        ("redis+sentinel://[::1]:7,b/m", SentinelAddress((("::1", 7), ("b", 26379)), "m")),
    ],
)
def test_an_address_names_sentinels_their_set_and_the_database(address, meaning):
    assert check_address(address) == address
    assert parse_sentinel(address) == meaning


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("redis+sentinel://a:1", "does not name what the Sentinels call the primary"),
        ("redis+sentinel://a:1/main/db", "does not name what the Sentinels call"),
        ("redis+sentinel:///main", "a Sentinel without a host"),
        ("redis+sentinel://a,,b/main", "a Sentinel without a host"),
        ("redis+sentinel://a:port/main", "cannot be read"),
        ("redis+sentinel://:hunter2@a/main", "belong in QZOOM_STORE_PASSWORD and QZOOM_STORE_SENT"),
        (f"redis+sentinel://{','.join('a' * 10)}/main", "names 10 Sentinels, at most 9"),
    ],
)
def test_a_wrong_address_is_explained(address, complaint):
    with pytest.raises(InvalidRequest, match=complaint) as caught:
        open_store(address)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["redis+sentinel", "rediss+sentinel"])
async def test_it_is_opened_without_a_connection(scheme):
    store = open_store(f"{scheme}://a,b/main")

    assert isinstance(store, RedisStore)
    await store.close()
