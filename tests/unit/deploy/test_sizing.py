"""Replicas for a load, from a scrape whose numbers are known."""

import pytest

from cli.console import Failure
from cli.size import size
from deploy.sizing import MIN_REQUESTS, StageUse, read_uses, replicas_for
from qzoom.telemetry.metrics import MetricsRegistry, render
from qzoom.telemetry.names import Metric, Span


def scrape(requests: int) -> str:
    """Each request encodes in 60 ms in a batch of 3; every second one zooms, in 30 ms, alone."""
    registry = MetricsRegistry()
    for number in range(requests):
        registry.add(Metric.REQUESTS, "direct", "ok")
        registry.observe(Metric.STAGE_COMPUTE, 0.06, Span.ENCODER_COARSE)
        registry.observe(Metric.BATCH_SIZE, 3, Span.ENCODER_COARSE)
        if number % 2:
            registry.observe(Metric.STAGE_COMPUTE, 0.03, Span.ENCODER_ROI)
            registry.observe(Metric.BATCH_SIZE, 1, Span.ENCODER_ROI)
    registry.add(Metric.REQUESTS, "none", "overloaded")
    return render(registry.snapshot().samples).decode()


def test_uses_are_what_was_measured():
    coarse, roi = read_uses(scrape(40))

    assert (coarse.stage, coarse.calls, coarse.batch) == (Span.ENCODER_COARSE, 1.0, 3.0)
    assert coarse.seconds == pytest.approx(0.06)
    assert (roi.stage, roi.calls, roi.batch) == (Span.ENCODER_ROI, 0.5, 1.0)


def test_stages_of_one_deployment_are_added_and_rounded_up():
    uses = read_uses(scrape(40))

    # 0.06 / 3 + 0.5 * 0.03 = 0.035 s of a replica for each request.
    assert replicas_for(uses, rate=19.9, busy=0.7) == {"encoder": 1}
    assert replicas_for(uses, rate=20.1, busy=0.7) == {"encoder": 2}
    assert replicas_for(uses, rate=199, busy=0.7) == {"encoder": 10}


def test_the_table_of_the_documentation_is_this_arithmetic():
    llm = StageUse(Span.LLM_DECODE, calls=1.0, seconds=2.5, batch=32.0)
    encoder = StageUse(Span.ENCODER_COARSE, calls=1.4, seconds=0.06, batch=4.0)

    assert replicas_for([llm, encoder], rate=20, busy=0.7) == {"llm": 3, "encoder": 1}


def test_too_few_requests_tell_nothing():
    with pytest.raises(ValueError, match=f"answered 3 requests .* {MIN_REQUESTS} at least"):
        read_uses(scrape(3))


def test_a_system_that_is_not_there_is_one_line():
    with pytest.raises(Failure, match="no metrics from http://127"):
        size(rate=1.0, url="http://127.0.0.1:9", busy=0.7)
