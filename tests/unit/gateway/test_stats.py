"""Figures for people: quantiles, windows, and a document that leaves no metric out."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import history
from gateway.history import History
from gateway.stats import Counts, quantile, summary
from qzoom.telemetry.metrics import MetricsRegistry, merge
from qzoom.telemetry.names import LATENCY_BUCKETS_S, SCORE_BUCKETS, STAGES, Metric


def cumulative(values, bounds):
    return [
        (bound, float(sum(value <= bound for value in values))) for bound in (*bounds, math.inf)
    ]


def test_a_quantile_lies_evenly_within_its_bucket():
    buckets = [(1.0, 10.0), (2.0, 30.0), (math.inf, 30.0)]
    assert quantile(buckets, 0.5) == pytest.approx(1.25)
    assert quantile(buckets, 1 / 3) == pytest.approx(1.0)
    assert quantile([(1.0, 0.0), (math.inf, 5.0)], 0.5) == 1.0
    assert quantile([(1.0, 0.0), (math.inf, 0.0)], 0.5) is None
    assert quantile([], 0.5) is None


@given(
    st.lists(st.floats(0.0005, 59.0), min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 0.99])
)
def test_a_quantile_is_in_the_bucket_of_the_true_one(values, share):
    estimate = quantile(cumulative(values, LATENCY_BUCKETS_S), share)
    true = float(np.quantile(values, share, method="inverted_cdf"))
    edges = (0.0, *LATENCY_BUCKETS_S)
    upper = next(i for i, edge in enumerate(edges) if true <= edge)
    assert edges[upper - 1] <= estimate <= edges[upper]


@pytest.fixture
def counted():
    registry = MetricsRegistry()
    for route, outcome in (
        ("direct", "ok"),
        ("direct", "ok"),
        ("zoom", "ok"),
        ("none", "overloaded"),
    ):
        registry.add(Metric.REQUESTS, route, outcome)
    registry.add(Metric.IN_FLIGHT, by=3)
    registry.observe(Metric.REQUEST_SECONDS, 0.2, "zoom")
    registry.observe(Metric.STAGE_QUEUE, 0.004, "gate.prefill")
    registry.observe(Metric.STAGE_COMPUTE, 0.03, "gate.prefill")
    registry.observe(Metric.BATCH_SIZE, 4, "gate.prefill")
    registry.add(Metric.STAGE_ERRORS, "llm.decode", "unavailable")
    for score in (0.01, 0.03, 0.55, 0.999):
        registry.observe(Metric.GATE_SCORE, score)
    registry.add(Metric.VISUAL_TOKENS, "spared", by=252)
    return registry


def test_the_summary_says_what_was_counted(counted):
    document = summary(merge([counted.snapshot(), counted.snapshot()]), 10.0)
    requests = document["requests"]
    assert requests["routes"] == {"direct": 4, "zoom": 2, "none": 2}
    assert requests["outcomes"] == {"ok": 6, "overloaded": 2}
    assert (requests["finished"], requests["per_s"], requests["in_flight"]) == (8, 0.8, 6)
    direct, zoom = document["latency"]
    assert direct["whole"] == {
        "count": 0, "mean_ms": None, "p50_ms": None, "p95_ms": None, "p99_ms": None,
    }  # fmt: skip
    assert zoom["whole"]["count"] == 2
    assert zoom["whole"]["mean_ms"] == 200
    assert 100 < zoom["whole"]["p50_ms"] <= zoom["whole"]["p99_ms"] <= 250
    stages = {row["stage"]: row for row in document["stages"]}
    assert list(stages) == [stage.value for stage in STAGES]
    assert stages["gate.prefill"]["queue"]["mean_ms"] == pytest.approx(4)
    assert stages["gate.prefill"]["batch_size"] == 4
    assert stages["llm.decode"]["errors"] == {"unavailable": 2}
    scores = document["gate"]["scores"]
    assert len(scores["edges"]) == len(scores["counts"]) + 1 == len(SCORE_BUCKETS) + 2
    assert dict(zip(scores["edges"], scores["counts"], strict=False))[0.5] == 2
    assert sum(scores["counts"]) == 8
    assert document["tokens"]["visual"] == {"spared": 504}


def test_nothing_counted_is_a_whole_document_too():
    document = summary({}, 0.0)
    assert document["requests"]["finished"] == 0
    assert document["gate"]["scores"]["counts"] == [0] * (len(SCORE_BUCKETS) + 1)


def test_a_metric_that_no_part_shows_is_listed(counted):
    counts = Counts(counted.snapshot().samples)
    counts.total(Metric.REQUESTS)
    listed = {(entry["name"], *entry["labels"].values()): entry for entry in counts.unread()}
    spared = listed["qzoom_visual_tokens_total", "spared"]
    assert (spared["value"], spared["meaning"]) == (252, Metric.VISUAL_TOKENS.value.meaning)
    waited = listed["qzoom_stage_queue_seconds", "gate.prefill"]
    assert (waited["value"], waited["mean"]) == (1, pytest.approx(0.004))
    assert not [name for name, *_ in listed if name == "qzoom_requests_total"]


def test_no_tenant_is_named(counted):
    for tenant, outcome in (("secret-a", "ok"), ("secret-b", "ok"), ("secret-b", "overloaded")):
        counted.add(Metric.TENANT_REQUESTS, tenant, outcome)
    document = summary(counted.snapshot().samples, 10.0)
    assert "secret" not in json.dumps(document)
    told = [e for e in document["other"] if e["name"] == "qzoom_tenant_requests_total"]
    assert {e["labels"]["outcome"]: e["value"] for e in told} == {"ok": 2, "overloaded": 1}


def test_a_window_holds_what_happened_in_it(counted, monkeypatch):
    now = 100.0
    monkeypatch.setattr(history.time, "monotonic", lambda: now)
    kept = History()
    key = ("qzoom_requests_total", (("outcome", "ok"), ("route", "zoom")))
    flying = ("qzoom_requests_in_flight", ())
    for _ in range(100):
        if kept.is_due:
            kept.note(counted.snapshot().samples)
        counted.add(Metric.REQUESTS, "zoom", "ok")
        now += 1.0
    total = counted.snapshot().samples
    grown, seconds = kept.since(30.0, total)
    assert grown[key] == seconds == 30
    assert grown[flying] == 3, "a gauge says what is now"
    whole, seconds = kept.since(900.0, total)
    assert (whole[key], seconds) == (100, 100)
    ever, seconds = kept.since(0, total)
    assert (ever[key], seconds) == (101, 100)
    lost, _ = kept.since(30.0, {key: 1.0})
    assert lost[key] == 0, "never negative"


def test_the_memory_of_a_long_run_is_bounded(monkeypatch):
    now = 0.0
    monkeypatch.setattr(history.time, "monotonic", lambda: now)
    kept = History()
    for _ in range(2000):
        assert kept.is_due
        kept.note({})
        assert not kept.is_due
        now += history.PERIOD_S
    assert len(kept._totals) * history.PERIOD_S <= history.SPAN_S + history.PERIOD_S
