"""Which way a request takes, and what the llm is then asked to read."""

from dataclasses import replace

import numpy as np
import pytest

from gateway import route
from gateway.events import Brownout
from gateway.reply import Reply
from qzoom.contracts.budget import ImageRules
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.request import AnswerRequest
from qzoom.contracts.sampling import Sampling
from qzoom.contracts.stages import (
    Context,
    Encoded,
    ImageSpan,
    Prefilled,
    Prompt,
    Proposal,
    Proposed,
    Timing,
)
from qzoom.contracts.status import ModelFacts
from qzoom.contracts.tensors import BundleHeader
from qzoom.errors import InvalidRequest

TIMING = Timing(0.0, 0.0, 1)
HEADER = BundleHeader((), 0)
CONTEXT = Context("request", 0.0)


def facts(*, has_gate=True, has_rpn=True):
    return ModelFacts(
        "qwen2_5_vl",
        "0",
        has_gate,
        has_rpn,
        tau_gate=0.5,
        tau_roi=0.1,
        cell_px=28,
        rules=ImageRules(28, None, fetch_resize=False, min_tokens=16, max_tokens=64),
        max_roi_tokens=48,
        kv_bytes_per_token=1024,
        visual_bytes_per_token=256,
        state_bytes_per_token=512,
    )


@pytest.mark.parametrize(
    ("options", "model", "num_images", "p_refine", "is_open"),
    [
        (Options(), facts(), 1, 0.5, True),
        (Options(), facts(), 1, 0.49, False),
        (Options(tau_gate=0.0), facts(), 1, 0.0, True),
        (Options(tau_gate=0.9), facts(), 1, 0.8, False),
        (Options(route="direct"), facts(), 1, None, False),
        (Options(route="zoom"), facts(), 1, None, True),
        (Options(), facts(has_gate=False), 1, None, True),
        (Options(), facts(has_gate=False, has_rpn=False), 1, None, False),
        (Options(), facts(), 0, None, False),
    ],
)
def test_the_gate_decides_under_auto_only(options, model, num_images, p_refine, is_open):
    assert route.decide(options, model, num_images, p_refine).is_open is is_open


def test_the_threshold_is_shown_where_it_decided():
    assert route.decide(Options(tau_gate=0.3), facts(), 1, 0.2).tau_gate == 0.3
    assert route.decide(Options(), facts(), 1, 0.2).tau_gate == 0.5
    assert route.decide(Options(route="zoom"), facts(), 1, None).tau_gate is None


@pytest.mark.parametrize(
    ("model", "num_images", "message"),
    [(facts(), 0, "no picture"), (facts(has_rpn=False), 1, "no RPN")],
)
def test_a_zoom_that_cannot_be_is_refused(model, num_images, message):
    with pytest.raises(InvalidRequest, match=message) as raised:
        route.check(Options(route="zoom"), model, num_images)
    assert raised.value.param == "qzoom.route"


def test_only_auto_asks_the_gate():
    assert route.asks_gate(Options(), facts(), 1)
    assert not route.asks_gate(Options(route="zoom"), facts(), 1)
    assert not route.asks_gate(Options(), facts(has_gate=False), 1)
    assert not route.asks_gate(Options(), facts(), 0)


@pytest.fixture
def request_():
    return AnswerRequest(
        request_id="request",
        model="model",
        conversation=single_question("What?"),
        images=(),
        image_params=(),
        sampling=Sampling(),
        options=Options(),
        stream=False,
        deadline=0.0,
        trace={},
    )


@pytest.fixture
def prefilled():
    """A prompt that shows picture 2 first, then 0, then 1."""
    spans = tuple(
        ImageSpan(image, start=4 * i, grid=(2, 2), size_px=(56, 56))
        for i, image in enumerate((2, 0, 1))
    )
    prompt = Prompt(np.zeros(14, np.int32), np.zeros((3, 14), np.float32), spans)
    return Reply(Prefilled(prompt, 0.7, (HEADER,), (b"key",), HEADER, TIMING), ["block", "suffix"])


@pytest.fixture
def coarse():
    encoded = Encoded((2, 2), 4, HEADER, TIMING, b"picture")
    return [Reply(encoded, [f"picture {i}"]) for i in range(3)]


def zoomed(image):
    proposal = Proposal(image, (0, 0, 1, 1), (0, 0, 28, 28), 0.9)
    proposed = Proposed(proposal, 0.1, None, image, TIMING)
    return route.Look(proposed, Reply(Encoded((3, 3), 9, HEADER, TIMING, b"roi"), ["roi"]))


def test_the_direct_route_reads_prefix_and_suffix(request_, prefilled, coarse):
    message, state = route.resume(request_, CONTEXT, prefilled, coarse, route.Look())
    assert state == ["block", "suffix"]
    assert message.roi is None
    assert message.later_images == ()


@pytest.mark.parametrize(
    ("image", "later"), [(2, ["picture 0", "picture 1"]), (0, ["picture 1"]), (1, [])]
)
def test_the_zoom_route_reads_pictures_behind_the_chosen_one(
    request_, prefilled, coarse, image, later
):
    message, state = route.resume(request_, CONTEXT, prefilled, coarse, zoomed(image))
    assert state == ["block", "suffix", "roi", *later]
    assert len(message.later_images) == len(later)


def test_a_region_that_could_not_be_encoded_is_no_zoom(request_, prefilled, coarse):
    look = route.Look(zoomed(0).proposed, None, "encoder.roi: unavailable")
    message, state = route.resume(request_, CONTEXT, prefilled, coarse, look)
    assert message.proposal is None
    assert state == ["block", "suffix"]
    tokens = route.visual_tokens(facts(), [(280, 280)], coarse, look)
    allowed = route.budgets(Options(max_roi_tokens=9), facts())
    assert (allowed.coarse, allowed.roi) == (64, 9)
    decision = route.Decision(None, None, True)
    started = route.started(decision, look, tokens, "trace", allowed, None)
    assert started.route == "direct"
    assert started.regions == ()


@pytest.mark.parametrize(("prompt_tokens", "fits"), [(96, True), (97, False)])
def test_the_roi_and_its_delimiters_need_room_behind_the_prompt(coarse, prompt_tokens, fits):
    model = replace(facts(), max_prompt_tokens=98 + coarse[0].message.num_tokens)
    look = route.Look(roi=coarse[0])
    assert route.fits(look, prompt_tokens, model) == fits
    assert route.fits(route.Look(), 10_000, model)
    assert route.fits(look, 10_000, facts())


def test_visual_tokens_are_counted(coarse):
    direct = route.visual_tokens(facts(), [(280, 140)], coarse, route.Look())
    assert (direct.coarse, direct.roi, direct.spared) == (12, 0, 50 - 12)
    zoom = route.visual_tokens(facts(), [(280, 140)], coarse, zoomed(0))
    assert (zoom.coarse, zoom.roi, zoom.spared) == (12, 9, 50 - 21)
    small = route.visual_tokens(facts(), [(20, 20)], coarse, route.Look())
    assert small.spared == 0
    text_only = route.visual_tokens(facts(), [], [], route.Look())
    assert (text_only.coarse, text_only.roi, text_only.spared) == (0, 0, 0)


def test_an_answer_says_what_brown_out_changed():
    asked, used = Options(), Options(tau_gate=0.8, max_roi_tokens=24)
    assert route.brownout(0, asked, asked) is None
    assert route.brownout(3, asked, used) == Brownout(3, ("tau_gate", "max_roi_tokens"))
    own = Options(tau_gate=0.1)
    assert route.brownout(1, own, own) == Brownout(1, ())
