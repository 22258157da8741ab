"""The scheduler with blocks that requests share, and with prompts that are computed in chunks."""

import asyncio

import pytest

from qzoom.model.decoder import Decoder
from qzoom.model.stack import TokenLayerCounter

SOON_S = 20.0
KEY = b"the picture's block"


class Recorder(Decoder):
    """A decoder that tells what it was asked for, in order."""

    def advance(self, cache, steps):
        self.calls.append(("chunk", [(one.slot, tokens) for one, tokens in steps]))
        return super().advance(cache, steps)

    def step(self, cache, slots, token_ids):
        self.calls.append(("step", list(slots)))
        return super().step(cache, slots, token_ids)


@pytest.fixture
def decoder(small_pipeline):
    counter = TokenLayerCounter()
    recorder = Recorder.load(small_pipeline.checkpoint, trim=False, counter=counter)
    recorder.calls = []
    return recorder


@pytest.fixture
def job(job):
    """All are about one picture, unless they name another."""

    def build(question="What?", max_tokens=4, *, deadline_s=SOON_S, key=KEY, is_zoom=False):
        made = job(question, max_tokens, deadline_s=deadline_s, key=key)
        made.is_zoom = is_zoom
        return made

    return build


async def read(job):
    return [token async for token in job.mailbox.read()]


async def answers(scheduler, jobs):
    for one in jobs:
        scheduler.submit(one)
    tokens = await asyncio.gather(*(read(one) for one in jobs))
    return [[i for token in answer for i in token.ids] for answer in tokens], tokens


async def end(scheduler, jobs):
    """Give up requests and wait until they are gone."""
    for one in jobs:
        scheduler.cancel(one)
    while scheduler.num_running:
        await asyncio.sleep(0.001)


QUESTIONS = ("What?", "Where is the number that I look for?", "Why?")


async def test_questions_about_one_picture_compute_its_block_once(scheduler, job, decoder):
    expected, _ = await answers(scheduler(), [job(q) for q in QUESTIONS])
    plain = decoder.counter.total("upper")
    decoder.counter.pairs.clear()
    jobs = [job(q) for q in QUESTIONS]
    given, tokens = await answers(scheduler(reuse_bytes=10**7), jobs)
    assert given == expected
    num_upper = len(decoder.upper.indices)
    block = jobs[0].prefix.ends[0]
    assert plain - decoder.counter.total("upper") == 2 * block * num_upper
    uses = sorted((t[0].resume.cache.reused, t[0].resume.cache.computed) for t in tokens)
    assert uses == [(0, block), (block, 0), (block, 0)]
    assert all(answer[0].resume.cache.held_bytes > 0 for answer in tokens)


async def test_other_pictures_share_nothing(scheduler, job):
    one = scheduler(reuse_bytes=10**7)
    _, tokens = await answers(one, [job(key=b"a"), job(key=b"b")])
    assert [answer[0].resume.cache.reused for answer in tokens] == [0, 0]


async def test_what_does_not_fit_is_computed_again(scheduler, job):
    small = scheduler(reuse_bytes=10)
    expected, _ = await answers(scheduler(), [job()])
    for _ in range(2):
        given, tokens = await answers(small, [job()])
        assert given == expected
        assert tokens[0][0].resume.cache.reused == 0


@pytest.mark.parametrize("chunk_tokens", [1, 3, 7])
async def test_chunks_change_nothing(scheduler, job, chunk_tokens, decoder):
    expected, _ = await answers(scheduler(), [job(q, 12) for q in QUESTIONS])
    decoder.calls.clear()
    one = scheduler(chunk_tokens=chunk_tokens, reuse_bytes=10**7)
    jobs = [job(q, 12) for q in QUESTIONS]
    one.submit(jobs[0])
    first = asyncio.create_task(read(jobs[0]))
    while not decoder.calls:
        await asyncio.sleep(0.001)
    given, _ = await answers(one, jobs[1:])
    assert [[i for token in await first for i in token.ids], *given] == expected


async def test_nobody_waits_longer_than_one_chunk_for_the_next_token(scheduler, job, decoder):
    one = scheduler(chunk_tokens=2)
    one.submit(running := job(max_tokens=60))
    reader = asyncio.create_task(read(running))
    while ("step", [0]) not in decoder.calls:
        await asyncio.sleep(0.001)
    await answers(one, [job(QUESTIONS[1], key=b"other")])
    reader.cancel()
    chunks = [i for i, (kind, _) in enumerate(decoder.calls) if kind == "chunk"][1:]
    assert len(chunks) > 3
    for i in chunks:
        assert sum(tokens for _, tokens in decoder.calls[i][1]) <= 2
        assert decoder.calls[i + 1][0] == "step"
    await end(one, [running])


async def test_direct_requests_overtake_zooming_ones(scheduler, job):
    single = scheduler(max_slots=1)
    single.submit(blocker := job(max_tokens=60))
    await anext(blocker.mailbox.read())
    ended = []

    async def follow(name, one):
        await read(one)
        ended.append(name)

    late = job(max_tokens=2, deadline_s=SOON_S, key=b"late")
    soon = job(max_tokens=2, deadline_s=SOON_S / 2, key=b"soon")
    zoom = job(max_tokens=2, deadline_s=SOON_S / 4, key=b"zoom", is_zoom=True)
    # With one slot there is none to keep from zooming requests, but the order still holds.
    jobs = {"zoom": zoom, "late": late, "soon": soon}
    single._max_zooms = 1
    for one in jobs.values():
        single.submit(one)
    readers = [asyncio.create_task(follow(name, one)) for name, one in jobs.items()]
    single.cancel(blocker)
    await asyncio.gather(*readers)
    assert ended == ["soon", "late", "zoom"]


async def test_a_slot_is_kept_for_direct_requests(scheduler, job):
    two = scheduler(max_slots=2)
    zooms = [job(max_tokens=70, key=b"1", is_zoom=True), job(key=b"2", is_zoom=True)]
    for one in zooms:
        two.submit(one)
    await anext(zooms[0].mailbox.read())
    _, tokens = await answers(two, [job(max_tokens=2)])
    assert len(tokens[0]) > 0
    while two.num_running > 1:
        await asyncio.sleep(0.001)
    assert len(two._waiting) == 1
    await end(two, zooms)


async def test_a_leader_that_goes_away_leaves_its_block_to_the_next(scheduler, job):
    one = scheduler(reuse_bytes=10**7)
    expected, _ = await answers(scheduler(), [job()])
    leader, follower = job(), job()
    one.submit(leader)
    one.cancel(leader)
    given, _ = await answers(one, [follower])
    assert given == expected
