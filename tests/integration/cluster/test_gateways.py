"""Two gateways count and remember as one."""

import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.cluster
TIMEOUT_S = 60.0
NUM_REQUESTS = 12
NUM_LOOKS = 8
REPORT_S = 2.0  # each gateway reports once per second


def counted(cluster):
    """All samples of a scrape by name and labels."""
    text = httpx.get(f"{cluster.url}/metrics", timeout=TIMEOUT_S).text
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def answered(cluster, body):
    """Ask some questions on connections of their own, so that both gateways get some."""
    answers = []
    for i in range(NUM_REQUESTS):
        question = body(route="zoom", tau_roi=0.05, seed=i)
        url = f"{cluster.url}/v1/chat/completions"
        answers.append(httpx.post(url, json=question, timeout=TIMEOUT_S).json())
    return answers


def test_metrics_are_summed_over_gateways_and_services(cluster, request):
    time.sleep(REPORT_S)
    before = counted(cluster)
    answers = request.getfixturevalue("answered")
    time.sleep(REPORT_S)
    for after in (counted(cluster) for _ in range(NUM_LOOKS)):
        grown = {key: value - before.get(key, 0.0) for key, value in after.items()}
        assert grown["qzoom_requests_total", ("outcome", "ok"), ("route", "zoom")] == NUM_REQUESTS
        for stage in answers[0]["qzoom"]["stage_ms"]:
            calls = grown["qzoom_stage_compute_seconds_count", ("stage", stage)]
            assert calls == NUM_REQUESTS
            spent_s = grown["qzoom_stage_compute_seconds_sum", ("stage", stage)]
            told_ms = sum(answer["qzoom"]["stage_ms"][stage]["compute"] for answer in answers)
            assert spent_s == pytest.approx(told_ms / 1e3, rel=0.01)


def test_every_gateway_shows_every_trace(cluster, answered):
    time.sleep(REPORT_S)
    for answer in answered:
        trace_id = answer["qzoom"]["trace_id"]
        trace = httpx.get(f"{cluster.url}/v1/traces/{trace_id}", timeout=TIMEOUT_S).json()
        assert trace["trace_id"] == trace_id
        assert {"gate.prefill", "rpn.propose", "llm.decode"} <= {s["name"] for s in trace["spans"]}
    listed = httpx.get(f"{cluster.url}/v1/traces", timeout=TIMEOUT_S).json()["data"]
    shown = {trace["trace_id"] for trace in listed}
    assert {answer["qzoom"]["trace_id"] for answer in answered} <= shown


def test_a_trace_that_never_was_is_not_found(cluster):
    assert httpx.get(f"{cluster.url}/v1/traces/unknown", timeout=TIMEOUT_S).status_code == 404
