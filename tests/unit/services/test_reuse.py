"""The four services in one process: what is known is not opened, not computed and not sent."""

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from qzoom.contracts.conversation import Picture, Text, Turn, single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.contracts.stages import Context, EncodeCoarse, EncodeRoi, Prefill, Propose, Resume
from services.encoder.service import EncoderService
from services.encoder.settings import EncoderSettings
from services.gate.service import GateService
from services.gate.settings import GateSettings
from services.llm.service import LlmService
from services.llm.settings import LlmSettings
from services.rpn.service import RpnService
from services.rpn.settings import RpnSettings

SOON_S = 60.0
GREEDY = Sampling(max_tokens=5)
MIB = 2**20
TAU_ROI = 1e-6


@dataclass
class Stages:
    """The services, and what was opened and sent."""

    encoder: EncoderService
    gate: GateService
    rpn: RpnService
    llm: LlmService
    opened: Counter = field(default_factory=Counter)
    sent: Counter = field(default_factory=Counter)

    def reader(self, stage, buffers):
        async def read(places):
            self.opened[stage] += len(places)
            return [buffers[place] for place in places]

        return read

    @property
    def work(self):
        totals = Counter()
        for name in ("gate", "rpn", "llm"):
            for (stack, _), count in getattr(self, name).work.items():
                totals[name, stack] += count
        return totals

    async def ask(self, picture, conversation, *, zoom=False, tenant="t", held=None):
        """Take one request through the stages; return its ids and the replies."""
        context = Context("id", time.time() + SOON_S, tenant=tenant)
        digest = str(picture.sum())
        coarse, visual = await self.encoder.encode_coarse(
            EncodeCoarse(context, None, digest), self.reader("encoder", [picture])
        )
        size = (picture.shape[1], picture.shape[0])
        known = {} if held is None else held
        ask = Prefill(context, conversation, (coarse,), (size,), held=frozenset(known))
        prefilled, buffers = await self.gate.prefill(ask, self.reader("gate", [visual]))
        *blocks, suffix = buffers
        self.sent["blocks"] += len(blocks)
        fresh = iter(blocks)
        state = [known[key] if key in known else next(fresh) for key in prefilled.keys]
        known.update(zip(prefilled.keys, state, strict=True))
        state.append(suffix)
        resume, proposed, roi = Resume(context, prefilled, GREEDY), None, None
        if zoom:
            proposed = await self.rpn.propose(
                Propose(context, prefilled, TAU_ROI), self.reader("rpn", state)
            )
            roi, crop = await self.encoder.encode_roi(
                EncodeRoi(context, proposed.proposal, None, digest),
                self.reader("encoder", [picture]),
            )
            resume = replace(resume, proposal=proposed.proposal, roi=roi)
            state.append(crop)
        ids, tokens = [], []
        async with aclosing(self.llm.answer(resume, self.reader("llm", state))) as answer:
            async for token in answer:
                ids += token.ids
                tokens.append(token)
        return ids, (coarse, prefilled, proposed, roi, tokens[0])

    def close(self):
        for service in (self.encoder, self.gate, self.rpn, self.llm):
            service.close()


@pytest.fixture
async def stages(small_pipeline):
    """Start the services: `stages(reuse_bytes)`."""
    made, threads = [], []

    def build(reuse_bytes=64 * MIB):
        threads.append(ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)))
        common = {
            "checkpoint": small_pipeline.checkpoint.path,
            "reuse_bytes": reuse_bytes,
            "threads": 1,
        }
        count = {**common, "count_work": True}
        made.append(
            Stages(
                EncoderService.load(EncoderSettings(**common), threads[-1]),
                GateService.load(GateSettings(**count, trim=False), threads[-1]),
                RpnService.load(RpnSettings(**count), threads[-1]),
                LlmService.load(
                    LlmSettings(**count, trim=False, max_slots=8, max_len=512),
                    lambda: torch.set_num_threads(1),
                ),
            )
        )
        return made[-1]

    yield build
    for one in made:
        one.close()
    for thread in threads:
        thread.shutdown()


@pytest.fixture(scope="session")
def picture():
    return np.random.default_rng(3).integers(0, 256, (112, 140, 3), dtype=np.uint8)


WHAT, WHY = single_question("What is it?"), single_question("Why is that so?")


@pytest.fixture
def expected(small_pipeline, picture):
    """Answer in one process, reusing nothing: `expected(conversation, zoom)`."""

    def answer(conversation, *, zoom=False):
        options = Options(route="zoom" if zoom else "direct", tau_roi=TAU_ROI)
        return list(small_pipeline.answer(conversation, [picture], options, GREEDY).ids)

    return answer


def num_layers(pipeline):
    config = pipeline.checkpoint.qzoom
    total = pipeline.checkpoint.hf_config.get_text_config().num_hidden_layers
    return config.split_layer, total


@pytest.mark.parametrize("zoom", [False, True])
async def test_a_second_question_pays_for_its_own_tokens(
    stages, picture, expected, small_pipeline, zoom
):
    one, held = stages(), {}
    assert (await one.ask(picture, WHAT, zoom=zoom, held=held))[0] == expected(WHAT, zoom=zoom)
    before = one.work
    one.opened.clear()
    one.sent.clear()
    ids, (coarse, prefilled, proposed, _, first) = await one.ask(picture, WHY, zoom=zoom, held=held)
    assert ids == expected(WHY, zoom=zoom)
    done, prompt = one.work - before, prefilled.prompt
    own = len(prompt.ids) - prompt.prefix_len
    split, total = num_layers(small_pipeline)
    assert done["gate", "lower"] == own * split
    assert done["gate", "gate"] == own * small_pipeline.checkpoint.qzoom.gate_depth
    assert coarse.timing.cache.reused == coarse.num_tokens
    assert prefilled.timing.cache.reused == prompt.prefix_len
    assert first.resume.cache.reused >= prompt.prefix_len
    assert one.sent["blocks"] == one.opened["gate"] == 0
    if zoom:
        assert proposed.timing.cache.reused == prompt.prefix_len
        assert one.opened["rpn"] == 1  # the suffix
        assert done["llm", "upper"] == (first.prompt_tokens - first.resume.cache.reused) * (
            total - split
        )
    else:
        assert +one.opened == {"llm": 1}
        assert done["llm", "upper"] == own * (total - split)


async def test_a_second_look_into_the_same_box_opens_and_computes_the_question_only(
    stages, picture, small_pipeline
):
    one, held = stages(), {}
    ids, first = await one.ask(picture, WHAT, zoom=True, held=held)
    before = one.work
    one.opened.clear()
    again, second = await one.ask(picture, WHAT, zoom=True, held=held)
    assert (again, second[2].proposal.box_px) == (ids, first[2].proposal.box_px)
    assert +one.opened == {"rpn": 1}
    roi = second[3]
    assert roi.timing.cache.reused == roi.num_tokens
    split, total = num_layers(small_pipeline)
    tail = second[4].prompt_tokens - second[4].resume.cache.reused
    assert (one.work - before)["llm", "lower"] == tail * split
    assert (one.work - before)["llm", "upper"] == tail * (total - split)
    assert tail < second[4].prompt_tokens - second[1].prompt.prefix_len - roi.num_tokens


@pytest.mark.parametrize("zoom", [False, True])
async def test_questions_that_arrive_together_share_the_picture(stages, picture, expected, zoom):
    one = stages()
    questions = [single_question(text) for text in ("What?", "Why is it red?", "Who?", "When?")]
    answers = await asyncio.gather(*(one.ask(picture, q, zoom=zoom) for q in questions))
    assert [ids for ids, _ in answers] == [expected(q, zoom=zoom) for q in questions]
    # Whoever came first computed the picture.
    encoded = [replies[0].timing.cache.computed for _, replies in answers]
    assert sorted(map(bool, encoded)) == [False, False, False, True]
    prefilled = [replies[1] for _, replies in answers]
    block = prefilled[0].prompt.prefix_len
    assert sum(reply.timing.cache.reused for reply in prefilled) == 3 * block
    assert sum(replies[4].resume.cache.reused >= block for _, replies in answers) == 3


async def test_tenants_share_nothing(stages, picture):
    one = stages()
    _, first = await one.ask(picture, WHAT, zoom=True, tenant="a")
    before = one.work
    _, other = await one.ask(picture, WHAT, zoom=True, tenant="b")
    uses = [reply.timing.cache for reply in other[:4]] + [other[4].resume.cache]
    assert [use.reused for use in uses] == [0] * 5
    assert one.work - before == before
    assert set(first[1].keys).isdisjoint(other[1].keys)


async def test_the_next_turn_reuses_the_picture(stages, picture, expected):
    one = stages()
    await one.ask(picture, WHAT)
    turns = (
        Turn("user", (Picture(0), Text("What is it?"))),
        Turn("assistant", (Text("A box."),)),
        Turn("user", (Text("Sure?"),)),
    )
    for zoom in (False, True):
        ids, replies = await one.ask(picture, turns, zoom=zoom)
        assert ids == expected(turns, zoom=zoom)
        assert replies[1].timing.cache.reused == replies[1].prompt.prefix_len


@pytest.mark.parametrize("zoom", [False, True])
async def test_where_nothing_may_be_kept_all_is_computed_again(stages, picture, expected, zoom):
    one = stages(reuse_bytes=0)
    assert (await one.ask(picture, WHAT, zoom=zoom))[0] == expected(WHAT, zoom=zoom)
    before = one.work
    ids, replies = await one.ask(picture, WHAT, zoom=zoom)
    assert ids == expected(WHAT, zoom=zoom)
    assert one.work - before == before
    assert {r.timing.cache for r in replies[:4] if r} | {replies[4].resume.cache} == {None}


async def test_a_cache_that_is_too_small_for_one_block_still_answers(stages, picture, expected):
    one = stages(reuse_bytes=1000)
    for _ in range(2):
        assert (await one.ask(picture, WHAT, zoom=True))[0] == expected(WHAT, zoom=True)


async def test_a_cancelled_leader_leaves_the_picture_to_the_next(stages, picture, expected):
    one = stages()
    leader = asyncio.create_task(one.ask(picture, WHAT))
    await asyncio.sleep(0)
    follower = asyncio.create_task(one.ask(picture, WHY))
    await asyncio.sleep(0.002)
    leader.cancel()
    assert (await follower)[0] == expected(WHY)
