"""Evaluation over HTTP against the gateway's real edge."""

import numpy as np
import pytest
from PIL import Image

from evaluation.answerers import Asked
from evaluation.answerers.remote import GatewayAnswerer
from evaluation.dataset import open_dataset
from evaluation.modes import Mode
from evaluation.run import evaluate
from qzoom.client import Retries
from qzoom.contracts.options import Options
from qzoom.data.record import PictureBytes, PictureFile, Record
from qzoom.errors import QZoomError


@pytest.fixture
def answerer(edge_server):
    found = GatewayAnswerer(edge_server.url, concurrency=3, timeout_s=20)
    yield found
    found.close()


class Drawn:
    key = "drawn"

    def load(self):
        return np.full((20, 30, 3), 200, np.uint8)


def asked(question, picture, **options):
    record = Record("1", picture, question, history=(("Before?", "yes"),))
    return Asked(picture, record.conversation(), Options(**options), 8)


def test_answers_come_back_in_order_with_route_and_tokens(answerer, picture, tmp_path):
    Image.new("RGB", (50, 40)).save(tmp_path / "a.jpg")
    sources = [PictureBytes(picture), PictureFile(tmp_path / "a.jpg"), Drawn()] * 5
    questions = [asked(f"q{i}", source, route="zoom") for i, source in enumerate(sources)]
    outcomes = list(answerer.answer_all(questions))
    sizes = ["64x48", "50x40", "30x20"] * 5
    assert [o.text for o in outcomes] == [f"q{i} [{size}]" for i, size in enumerate(sizes)]
    assert all((o.coarse_tokens, o.roi_tokens) == (36, 9) for o in outcomes)
    assert outcomes[1].box_px == (0, 0, 50, 40)
    assert outcomes[1].size_px == (50, 40)
    assert all(o.cpu_s is None and o.wall_s > 0 for o in outcomes)


def test_options_reach_the_gateway(answerer, edge_server, picture):
    list(answerer.answer_all([asked("q", PictureBytes(picture), tau_gate=0.25, max_roi_tokens=9)]))
    request = edge_server.flow.requests[-1]
    assert (request.options.tau_gate, request.options.max_roi_tokens) == (0.25, 9)
    assert [turn.role for turn in request.conversation] == ["user", "assistant", "user"]


def test_failures_become_outcomes(edge_server, picture, tmp_path):
    answerer = GatewayAnswerer(edge_server.url, concurrency=3, retries=Retries(most=0))
    (tmp_path / "broken.png").write_text("x")
    good = PictureBytes(picture)
    outcomes = list(
        answerer.answer_all(
            [asked("refuse", good), asked("bug", good), asked("fine", good),
             asked("q", PictureFile(tmp_path / "gone.png")), asked("q", good, max_roi_tokens=1)]
        )
    )  # fmt: skip
    assert [bool(o.error) for o in outcomes] == [True, True, False, True, True]
    answerer.close()
    assert outcomes[0].error == "the queue has 8 requests, at most 8"
    assert "max_roi_tokens" in outcomes[4].error


def test_a_data_set_is_evaluated(answerer):
    data = open_dataset("builtin:test", questions=5)
    results = list(evaluate(answerer, data, Mode("auto", 36)))
    assert len(results) == 5
    assert all(r.p_refine == 0.75 and not r.error for r in results)


@pytest.mark.parametrize("address", ["{url}/elsewhere", "ftp://127.0.0.1", "http://127.0.0.1:9"])
def test_only_a_gateway_will_do(edge_server, address):
    with pytest.raises(QZoomError):
        GatewayAnswerer(address.format(url=edge_server.url))
