"""Continuous batching on a real decoder: joining, leaving, bounds, and no waiting for anybody."""

import asyncio
from dataclasses import replace

import pytest

from qzoom.errors import DeadlineExceeded, Overloaded, TooLarge, Unavailable

SOON_S = 20.0
MAX_LEN = 96
ENDLESS = 10_000


async def read(job):
    return [token async for token in job.mailbox.read()]


async def ids(job):
    return [i for token in await read(job) for i in token.ids]


async def all_free(scheduler):
    for _ in range(200):
        if scheduler.num_running == 0:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_together_equals_alone(scheduler, job):
    questions = ["What?", "Where is the number that I look for?", "Why?", "Who?", "When was it?"]
    lengths = [3, 9, 6, 12, 5]
    one_slot, many_slots = scheduler(max_slots=1), scheduler(max_slots=3)
    alone = []
    for question, length in zip(questions, lengths, strict=True):
        one_slot.submit(lonely := job(question, length))
        alone.append(await ids(lonely))
    jobs = [job(q, n) for q, n in zip(questions, lengths, strict=True)]
    for one in jobs:
        many_slots.submit(one)
    answers = await asyncio.gather(*(read(one) for one in jobs))
    assert [[i for token in answer for i in token.ids] for answer in answers] == alone
    assert max(answer[-1].decode.batch_size for answer in answers) > 1
    assert await all_free(many_slots)


async def test_the_first_and_the_last_token_carry_the_times(scheduler, job):
    scheduler().submit(asked := job(max_tokens=4))
    tokens = await read(asked)
    assert tokens[0].resume.compute_s > 0
    assert tokens[0].prompt_tokens == asked.num_tokens
    assert tokens[-1].decode.compute_s > 0
    assert tokens[-1].finish == "length"
    assert sum(len(token.ids) for token in tokens) == 4


async def test_an_answer_ends_where_its_slot_ends(scheduler, job):
    scheduler().submit(asked := job(max_tokens=ENDLESS))
    drawn = await ids(asked)
    # The token that is drawn last is never fed back.
    assert asked.num_tokens + len(drawn) == MAX_LEN + 1


async def test_a_prompt_that_does_not_fit_is_refused_by_name(scheduler, job):
    with pytest.raises(TooLarge, match=rf"has {MAX_LEN} tokens .* at most {MAX_LEN - 1}"):
        scheduler().submit(replace(job(), num_tokens=MAX_LEN))


async def test_more_than_may_wait_are_refused(scheduler, job):
    small = scheduler(max_slots=1, max_waiting=2)
    jobs = [job(max_tokens=60) for _ in range(3)]
    small.submit(jobs[0])
    await anext(jobs[0].mailbox.read())
    small.submit(jobs[1])
    small.submit(jobs[2])
    with pytest.raises(Overloaded, match="2 requests wait, limit 2"):
        small.submit(job())
    for one in jobs:
        small.cancel(one)
    assert await all_free(small)


async def test_cancelling_frees_the_slot_for_the_next(scheduler, job):
    single = scheduler(max_slots=1)
    single.submit(first := job(max_tokens=70))
    await anext(first.mailbox.read())
    single.submit(second := job(max_tokens=2))
    single.cancel(first)
    assert len(await ids(second)) == 2


async def test_a_deadline_ends_an_answer_and_frees_its_slot(scheduler, job):
    one = scheduler(max_slots=1)
    one.submit(asked := job(max_tokens=70, deadline_s=0.0))
    with pytest.raises(DeadlineExceeded):
        await read(asked)
    assert await all_free(one)


async def test_a_broken_state_spoils_its_own_request_only(scheduler, job):
    single = scheduler()
    single.submit(blocker := job(max_tokens=30))
    broken = job()
    broken.state = replace(broken.state, suffix=broken.state.blocks[0])
    jobs = [job(max_tokens=3), broken, job(max_tokens=3)]
    for one in jobs:
        single.submit(one)
    results = await asyncio.gather(*(ids(one) for one in jobs), return_exceptions=True)
    assert [len(results[0]), len(results[2])] == [3, 3]
    assert isinstance(results[1], Exception)
    assert len(await ids(blocker)) == 30
    assert single.defect is None


async def test_closing_fails_what_is_not_complete(scheduler, job):
    one = scheduler()
    one.submit(asked := job(max_tokens=75))
    one.close(SOON_S)
    with pytest.raises(Unavailable):
        await read(asked)
    with pytest.raises(Unavailable):
        one.submit(job())


@pytest.mark.parametrize("how", ["cancelled", "expired"])
async def test_a_prefill_that_nobody_waits_for_stops_between_layers(
    scheduler, job, small_pipeline, how
):
    ran = []
    one = job(deadline_s=SOON_S)

    def leave_in_the_first_layer(index):
        def hook(*_):
            ran.append(index)
            if how == "cancelled":
                one.is_cancelled = True
            else:
                one.deadline = 0.0

        return hook

    layers = small_pipeline.decoder.upper.layers
    running = scheduler()
    hooks = [
        layer.register_forward_hook(leave_in_the_first_layer(i)) for i, layer in enumerate(layers)
    ]
    try:
        running.submit(one)
        if how == "expired":
            with pytest.raises(DeadlineExceeded):
                await read(one)
        assert await all_free(running)
        for _ in range(100):
            if ran:
                break
            await asyncio.sleep(0.02)
        # Another request finds the slot free and the thread at work.
        for hook in hooks:
            hook.remove()
        other = job(max_tokens=2)
        running.submit(other)
        assert len(await ids(other)) == 2
        assert ran == [0]
        assert len(layers) > 1
    finally:
        for hook in hooks:
            hook.remove()
