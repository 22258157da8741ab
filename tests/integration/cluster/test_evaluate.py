"""Evaluating a gateway gives what evaluating its model in process gives."""

import pytest

from evaluation.answerers.local import LocalAnswerer, open_pipeline
from evaluation.answerers.remote import GatewayAnswerer
from evaluation.dataset import open_dataset
from evaluation.modes import Mode
from evaluation.run import evaluate

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("mode", [Mode("base"), Mode("auto"), Mode("zoom", tau_roi=0.05)])
def test_the_gateway_answers_as_the_pipeline(cluster, mode):
    data = open_dataset("builtin:test?seed=1", questions=6, max_tokens=6)
    here = list(evaluate(LocalAnswerer(open_pipeline(cluster.checkpoint)), data, mode))
    gateway = GatewayAnswerer(cluster.url, concurrency=3)
    there = list(evaluate(gateway, data, mode))
    gateway.close()
    for a, b in zip(here, there, strict=True):
        assert (a.answer, a.route, a.box_px, a.coarse_tokens, a.roi_tokens) == (
            b.answer,
            b.route,
            b.box_px,
            b.coarse_tokens,
            b.roi_tokens,
        )
