import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from qzoom.telemetry.metrics import MetricsLedger, MetricsRegistry, merge, render
from qzoom.telemetry.names import LATENCY_BUCKETS_S, Kind, Metric


def value(samples, metric, suffix="", **labels):
    return samples[metric.value.name + suffix, tuple(sorted(labels.items()))]


def scrape(samples):
    text = render(samples).decode()
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_two_gateways_add_up_in_the_exposition():
    one, two = MetricsRegistry(), MetricsRegistry()
    one.observe(Metric.STAGE_COMPUTE, 0.003, "gate.prefill")
    two.observe(Metric.STAGE_COMPUTE, 0.3, "gate.prefill")
    two.observe(Metric.STAGE_COMPUTE, 99.0, "llm.decode")
    one.add(Metric.REQUESTS, "zoom", "ok")
    two.add(Metric.REQUESTS, "zoom", "ok", by=2)
    one.add(Metric.IN_FLIGHT)
    two.add(Metric.IN_FLIGHT, by=4)
    seen = scrape(merge([one.snapshot(), two.snapshot()]))
    gate = (("stage", "gate.prefill"),)
    assert seen["qzoom_stage_compute_seconds_count", gate] == 2
    assert seen["qzoom_stage_compute_seconds_sum", gate] == pytest.approx(0.303)
    assert seen["qzoom_stage_compute_seconds_bucket", (("le", "0.005"), *gate)] == 1
    assert seen["qzoom_stage_compute_seconds_bucket", (("le", "+Inf"), *gate)] == 2
    answered = (("outcome", "ok"), ("route", "zoom"))
    decode = (("le", "60.0"), ("stage", "llm.decode"))
    assert seen["qzoom_stage_compute_seconds_bucket", decode] == 0
    assert seen["qzoom_requests_total", answered] == 3
    assert seen["qzoom_requests_in_flight", ()] == 5
    [version] = [v for (name, _), v in seen.items() if name == "qzoom_build_info"]
    assert version == 1


def test_every_metric_is_exposed_with_help_and_type():
    lines = render(MetricsRegistry().snapshot().samples).decode().splitlines()
    for metric in Metric:
        assert f"# TYPE {metric.value.name} {metric.value.kind.value}" in lines
        assert f"# HELP {metric.value.name} {metric.value.meaning}" in lines
    assert not [line for line in lines if "_created" in line]


def test_a_snapshot_travels_and_stays_as_it_was():
    registry = MetricsRegistry()
    registry.add(Metric.RERUNS)
    snapshot = pickle.loads(pickle.dumps(registry.snapshot()))
    registry.add(Metric.RERUNS)
    assert value(snapshot.samples, Metric.RERUNS) == 1
    assert value(registry.snapshot().samples, Metric.RERUNS) == 2


def test_a_restarted_gateway_makes_no_counter_fall():
    ledger = MetricsLedger()
    before = MetricsRegistry()
    before.add(Metric.REQUESTS, "direct", "ok", by=7)
    ledger.put(before.snapshot())
    after = MetricsRegistry()
    after.add(Metric.REQUESTS, "direct", "ok")
    ledger.put(after.snapshot())
    assert value(ledger.total(), Metric.REQUESTS, route="direct", outcome="ok") == 8


def test_newer_snapshots_replace_older_ones():
    ledger, registry = MetricsLedger(), MetricsRegistry()
    for _ in range(3):
        registry.add(Metric.RERUNS)
        ledger.put(registry.snapshot())
    assert value(ledger.total(), Metric.RERUNS) == 3


def test_a_dead_gateway_keeps_its_counts_and_loses_its_gauges():
    ledger, dead = MetricsLedger(stale_s=-1.0), MetricsRegistry()
    dead.add(Metric.IN_FLIGHT)
    dead.add(Metric.RERUNS)
    ledger.put(dead.snapshot())
    total = ledger.total()
    assert value(total, Metric.RERUNS) == 1
    assert (Metric.IN_FLIGHT.value.name, ()) not in total


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_the_total_never_falls_and_never_loses_a_count(sources):
    ledger = MetricsLedger(max_sources=3)
    registries = {}
    counted = previous = 0
    for step, source in enumerate(sources):
        # A source that was folded away has restarted under a new name.
        if source not in registries or registries[source].source not in ledger._latest:
            registries[source] = MetricsRegistry()
        registries[source].add(Metric.RERUNS, by=step + 1)
        counted += step + 1
        ledger.put(registries[source].snapshot())
        total = value(ledger.total(), Metric.RERUNS)
        assert total == counted
        assert total >= previous
        previous = total


def test_labels_that_do_not_fit_are_refused():
    registry = MetricsRegistry()
    with pytest.raises(ValueError, match="label"):
        registry.add(Metric.REQUESTS, "zoom")
    with pytest.raises(ValueError, match="label"):
        registry.observe(Metric.STAGE_QUEUE, 1.0)


def test_latencies_share_their_buckets_and_carry_their_unit():
    for metric in Metric:
        spec = metric.value
        if spec.name.endswith("_seconds"):
            assert spec.buckets == LATENCY_BUCKETS_S
        assert spec.name.endswith("_total") == (spec.kind is Kind.COUNTER)
        assert bool(spec.buckets) == (spec.kind is Kind.HISTOGRAM)
