"""What decides which replica a request prefers, and when it is passed over."""

import hashlib
from collections import Counter

import pytest

from gateway.affinity import Ring, affinity_of

KEYS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(2000)]
BOUNDS = {"free": 4, "factor": 1.25}


def ring_of(count):
    names = [f"replica-{number}" for number in range(count)]
    return Ring(dict(zip(names, names, strict=True)))


def owners(ring):
    return {key: next(ring.walk(key)) for key in KEYS}


def test_requests_about_one_picture_prefer_the_same_replica():
    assert affinity_of("t", ["a", "b"]) == affinity_of("t", ["a", "c"])
    names = {affinity_of(t, [d]) for t in ("t", "u") for d in ("a", "b")}
    assert len(names) == 4
    assert affinity_of("t", []) == ""


def test_who_knows_the_same_replicas_agrees():
    names = [f"replica-{number}" for number in range(5)]
    forwards = Ring({name: name for name in names})
    backwards = Ring({name: name for name in reversed(names)})
    assert [list(forwards.walk(key)) for key in KEYS[:50]] == [
        list(backwards.walk(key)) for key in KEYS[:50]
    ]


@pytest.mark.parametrize("count", [2, 5, 16])
def test_keys_spread_over_all_replicas(count):
    shares = Counter(owners(ring_of(count)).values())
    assert len(shares) == count
    assert max(shares.values()) <= 1.7 * len(KEYS) / count


@pytest.mark.parametrize("count", [2, 5, 16])
def test_only_the_share_of_a_replica_moves_when_it_comes_or_goes(count):
    few, many = owners(ring_of(count)), owners(ring_of(count + 1))
    moved = [key for key in KEYS if few[key] != many[key]]
    assert {many[key] for key in moved} == {f"replica-{count}"}
    assert 0 < len(moved) <= 1.7 * len(KEYS) / (count + 1)


def test_a_walk_meets_every_replica_once_and_goes_on_as_if_the_first_were_gone():
    ring, rest = ring_of(4), ring_of(3)
    for key in KEYS[:50]:
        walk = list(ring.walk(key))
        assert sorted(walk) == [f"replica-{number}" for number in range(4)]
        assert [name for name in walk if name != "replica-3"] == list(rest.walk(key))


def test_without_members_there_is_nobody_to_choose():
    assert list(Ring({}).walk("key")) == []
    assert Ring({}).choose("key", lambda _: 0, **BOUNDS) is None


def test_the_owner_is_chosen_while_it_has_room():
    ring = ring_of(4)
    for key in KEYS[:50]:
        owner = next(ring.walk(key))
        for load in range(BOUNDS["free"]):
            loads = Counter({owner: load})
            assert ring.choose(key, loads.__getitem__, **BOUNDS) == owner


def test_an_owner_is_passed_over_only_if_it_has_more_than_its_part():
    ring, key = ring_of(4), KEYS[0]
    owner, second, *others = ring.walk(key)
    evenly = dict.fromkeys((owner, second, *others), 40)
    assert ring.choose(key, evenly.get, **BOUNDS) == owner
    assert ring.choose(key, {**evenly, owner: 90}.get, **BOUNDS) == second
    assert ring.choose(key, {**evenly, owner: 90, second: 90}.get, **BOUNDS) == others[0]


def test_there_is_always_somebody_and_nobody_gets_far_more_than_the_mean():
    ring, loads = ring_of(5), Counter()
    for _ in range(500):
        loads[ring.choose(KEYS[0], loads.__getitem__, **BOUNDS)] += 1
    assert sum(loads.values()) == 500
    assert max(loads.values()) <= 1.25 * 101 + 1
