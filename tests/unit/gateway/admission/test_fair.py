"""The queue is fair between tenants, first come first served within one, and starves nobody."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.fair import FairQueue, Fit


def always(_item):
    return Fit.YES


def drain(queue, fits=always):
    taken = []
    while (item := queue.pop(fits)) is not None:
        taken.append(item)
    return taken


def test_one_tenant_is_served_in_order():
    queue = FairQueue(10)
    for i in range(5):
        queue.push("a", i + 1, cost=7)
    assert drain(queue) == [1, 2, 3, 4, 5]
    assert len(queue) == 0


def test_a_crowd_delays_a_single_request_by_one_turn():
    queue = FairQueue(10)
    for i in range(100):
        queue.push("crowd", ("crowd", i), cost=10)
    queue.push("lone", ("lone", 0), cost=10)
    assert ("lone", 0) in drain(queue)[:2]


def test_dear_requests_get_no_more_work_than_cheap_ones():
    queue = FairQueue(100)
    for i in range(60):
        queue.push("dear", ("dear", i), cost=90)
        queue.push("cheap", ("cheap", i), cost=10)
    work = Counter()
    for _ in range(40):
        tenant, _ = queue.pop(always)
        work[tenant] += 90 if tenant == "dear" else 10
    assert abs(work["dear"] - work["cheap"]) <= 190


def test_a_tenant_at_its_own_bound_is_passed_a_full_house_is_not():
    queue = FairQueue(10)
    queue.push("a", ("a", 0), cost=1)
    queue.push("b", ("b", 0), cost=1)
    assert queue.pop(lambda item: Fit.TENANT_FULL if item[0] == "a" else Fit.YES) == ("b", 0)
    queue.push("b", ("b", 1), cost=1)
    # Otherwise what is cheap would pass what is dear for ever.
    assert queue.pop(lambda item: Fit.FULL if item[0] == "a" else Fit.YES) is None
    assert queue.pop(lambda _: Fit.TENANT_FULL) is None


def test_what_is_removed_is_gone():
    queue = FairQueue(10)
    items = [object() for _ in range(3)]
    for item in items:
        queue.push("a", item, cost=1)
    assert queue.remove("a", items[1])
    assert not queue.remove("a", items[1])
    assert not queue.remove("b", items[0])
    assert drain(queue) == [items[0], items[2]]


def test_the_longest_lane_loses_its_newest():
    queue = FairQueue(10)
    for tenant, count in (("a", 2), ("b", 3)):
        for i in range(count):
            queue.push(tenant, (tenant, i), cost=1)
    assert queue.pop_last_of_longest() == ("b", ("b", 2))
    assert len(queue) == 4


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 500)),
        max_size=60,
    ),
    st.integers(1, 100),
)
def test_everything_that_enters_leaves_once_and_in_order(pushes, quantum):
    queue = FairQueue(quantum)
    for number, (tenant, cost) in enumerate(pushes):
        queue.push(tenant, (tenant, number), cost)
    assert len(queue) == len(pushes)
    taken = drain(queue)
    assert sorted(number for _, number in taken) == list(range(len(pushes)))
    for tenant in "abc":
        numbers = [number for name, number in taken if name == tenant]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize(("own", "others", "expected"), [(0, 5, 1), (2, 5, 5), (3, 1, 4)])
def test_a_tenant_knows_how_many_are_before_it(own, others, expected):
    queue = FairQueue(10)
    for i in range(own):
        queue.push("a", ("a", i), cost=1)
    for i in range(others):
        queue.push("b", ("b", i), cost=1)
    assert queue.ahead_of("a") == expected
