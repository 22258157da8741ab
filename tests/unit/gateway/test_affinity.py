"""What decides which replica a request prefers: the tenant and the first picture."""

from gateway.stages import affinity_of


def test_requests_about_one_picture_prefer_the_same_replica():
    assert affinity_of("t", ["a", "b"]) == affinity_of("t", ["a", "c"])
    names = {affinity_of(t, [d]) for t in ("t", "u") for d in ("a", "b")}
    assert len(names) == 4
    assert affinity_of("t", []) == ""
