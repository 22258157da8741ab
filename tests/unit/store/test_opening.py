"""From an address to a store, and what is wrong with an address."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from qzoom.errors import InvalidRequest
from qzoom.store.base import StoreUnavailable
from qzoom.store.opening import default_path, open_store
from qzoom.store.redis import RedisStore

NUM_GATEWAYS, NUM_FILES = 8, 20


async def test_without_an_address_there_is_one_file_for_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    store = open_store("")
    await store.put_setting("tau_gate", "0.5")
    await store.close()

    assert store.kind == "embedded"
    assert default_path() == tmp_path / "qzoom" / "store.sqlite3"
    assert stat.S_IMODE(default_path().stat().st_mode) == 0o600
    assert stat.S_IMODE(default_path().parent.stat().st_mode) == 0o700


async def test_what_is_kept_outlives_its_process(tmp_path):
    address = f"sqlite://{tmp_path}/deeper/store.db"
    first = open_store(address)
    await first.put_setting("tau_gate", "0.5")
    await first.close()

    second = open_store(address)

    assert (await second.configuration("")).settings == {"tau_gate": "0.5"}
    await second.close()


async def test_gateways_that_start_together_share_one_new_file(tmp_path):
    def open_at_once(address):
        with ThreadPoolExecutor(NUM_GATEWAYS) as gateways:
            return list(gateways.map(lambda _: open_store(address), range(NUM_GATEWAYS)))

    for number in range(NUM_FILES):
        for store in open_at_once(f"sqlite://{tmp_path}/{number}.db"):
            await store.close()


@pytest.mark.parametrize("address", ["redis://host:6379/0", "rediss://host", "unix:///run/r.sock"])
async def test_redis_is_opened_without_a_connection(address):
    store = open_store(address)

    assert isinstance(store, RedisStore)
    await store.close()


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("redis://:secret@host:6379", "the password of the store belongs in QZOOM_STORE_PASSWORD"),
        ("http://host", "begins with 'http', must be sqlite, redis, rediss, unix"),
        ("host:6379", "must be sqlite"),
        ("sqlite://", "names no file"),
        ("redis://host:port", "cannot be read"),
    ],
)
def test_a_wrong_address_is_explained(address, complaint):
    with pytest.raises(InvalidRequest, match=complaint) as caught:
        open_store(address)
    assert "secret@" not in str(caught.value)


def test_a_file_that_cannot_be_used_is_explained(tmp_path):
    (tmp_path / "file").write_text("this is no database, but long enough to look like one" * 99)

    with pytest.raises(StoreUnavailable, match="cannot be used"):
        open_store(f"sqlite://{tmp_path}/file")
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        open_store(f"sqlite://{tmp_path}/file/store.db")


async def test_a_redis_that_is_not_there_is_told_without_its_address(tmp_path):
    store = open_store(f"unix://{tmp_path}/none.sock")

    with pytest.raises(StoreUnavailable) as caught:
        await store.configuration("")

    assert "none.sock" not in caught.value.reason
    await store.close()


async def test_the_password_of_redis_comes_from_the_environment(own_redis, monkeypatch):
    with own_redis.client() as client:
        client.config_set("requirepass", 'a "quoted" word')
    stranger = open_store(own_redis.url)
    monkeypatch.setenv("QZOOM_STORE_PASSWORD", 'a "quoted" word')
    known = open_store(own_redis.url)

    with pytest.raises(StoreUnavailable, match="Redis: AuthenticationError"):
        await stranger.configuration("x")
    await known.put_setting("tau_gate", "0.5")

    assert (await known.configuration("")).settings == {"tau_gate": "0.5"}
    await stranger.close()
    await known.close()
