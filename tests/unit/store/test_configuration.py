"""Keys and settings: kept, versioned, bounded."""

import asyncio

import pytest

from qzoom.errors import NotFound, TooLarge
from qzoom.store import redis as redis_module
from qzoom.store import sqlite as sqlite_module
from qzoom.store.api_keys import new_key
from qzoom.store.messages import Configuration


async def test_a_new_store_knows_nothing(store):
    assert await store.configuration("") is None
    assert await store.configuration("old") == Configuration()


async def test_keys_and_settings_come_back_as_they_were(store):
    _, record = new_key("acme", 'laptop "\N{SNOWMAN}", "revoked": null', 1.5e9, lifetime_s=60.5)
    await store.add_key(record)
    await store.put_setting("tau_gate", "0.25")

    configuration = await store.configuration("")

    assert configuration is not None
    assert configuration.keys == {record.id: record}
    assert configuration.settings == {"tau_gate": "0.25"}
    assert configuration.version
    assert await store.configuration(configuration.version) is None


async def test_every_change_is_seen_by_the_others(make_store):
    one, other = make_store(), make_store()
    _, record = new_key("acme", "", 1.5e9)
    seen = []

    async def look():
        known = seen[-1].version if seen else ""
        seen.append(await other.configuration(known))

    await one.add_key(record)
    await look()
    await one.put_setting("tau_gate", "0.1")
    await look()
    await one.put_setting("tau_gate", None)
    await look()
    await one.revoke_key(record.id, 1.6e9)
    await look()

    assert [c.settings for c in seen] == [{}, {"tau_gate": "0.1"}, {}, {}]
    assert seen[2].keys[record.id].is_valid(1.7e9)
    assert not seen[3].keys[record.id].is_valid(1.7e9)
    assert len({c.version for c in seen}) == 4
    await one.close()
    await other.close()


async def test_a_key_is_revoked_once(store):
    _, record = new_key("acme", "", 1.5e9)
    await store.add_key(record)

    first = await store.revoke_key(record.id, 1600000000.125)
    second = await store.revoke_key(record.id, 1700000000.0)

    assert first.revoked == second.revoked == 1600000000.125
    assert first.tenant == "acme"


async def test_a_key_that_is_not_there_cannot_be_revoked(store):
    with pytest.raises(NotFound, match="there is no key 'f00'"):
        await store.revoke_key("f00", 1.6e9)


async def test_keys_and_settings_are_bounded(store, monkeypatch):
    for module in (redis_module, sqlite_module):
        monkeypatch.setattr(module, "MAX_KEYS", 2)
        monkeypatch.setattr(module, "MAX_SETTINGS", 2)
    for _ in range(2):
        await store.add_key(new_key("acme", "", 1.5e9)[1])
    for name in "ab":
        await store.put_setting(name, "1")

    with pytest.raises(TooLarge, match="there are 2 keys, at most 2"):
        await store.add_key(new_key("acme", "", 1.5e9)[1])
    with pytest.raises(TooLarge, match="there are 2 settings, at most 2"):
        await store.put_setting("c", "1")
    configuration = await store.configuration("")
    assert len(configuration.keys) == 2
    assert len(configuration.settings) == 2


async def test_many_writers_lose_nothing(make_store):
    stores = [make_store() for _ in range(3)]
    records = [new_key("acme", f"{i}", 1.5e9)[1] for i in range(30)]

    await asyncio.gather(*(stores[i % 3].add_key(record) for i, record in enumerate(records)))

    configuration = await stores[0].configuration("")
    assert set(configuration.keys) == {record.id for record in records}
    for opened in stores:
        await opened.close()


async def test_a_store_that_lost_everything_gets_it_back_and_no_other(store):
    _, lost = new_key("acme", "lost", 1.5e9)
    _, later = new_key("acme", "later", 1.5e9)
    known = Configuration("v", {lost.id: lost}, {"tau_gate": "0.5", "limits.concurrency": "3"})

    await store.restore(known)
    await store.add_key(later)
    await store.put_setting("tau_gate", "0.25")
    await store.restore(known)

    found = await store.configuration("")
    assert found.keys == {lost.id: lost, later.id: later}
    assert found.settings == {"tau_gate": "0.25", "limits.concurrency": "3"}
    assert (await store.revoke_key(lost.id, 1.6e9)).revoked == 1.6e9
