"""Tokens reach a slow reader merged, in order, and without holding up the writer."""

import asyncio
import threading

import pytest

from qzoom.contracts.stages import Timing, Token
from qzoom.errors import DeadlineExceeded
from services.llm.mailbox import Mailbox

TIMING = Timing(0.0, 0.1, 1)


def write(mailbox, tokens):
    thread = threading.Thread(target=lambda: [mailbox.put(token) for token in tokens])
    thread.start()
    thread.join()


async def test_what_piles_up_is_merged_but_for_the_first_token():
    mailbox = Mailbox(asyncio.get_running_loop())
    write(
        mailbox,
        [
            Token("a", (1,), prompt_tokens=9, resume=TIMING),
            Token("b", (2,)),
            Token("", (3,)),
            Token("c", (4,), "stop", decode=TIMING),
        ],
    )
    first, rest = [token async for token in mailbox.read()]
    assert first == Token("a", (1,), prompt_tokens=9, resume=TIMING)
    assert rest == Token("bc", (2, 3, 4), "stop", decode=TIMING)


async def test_a_reader_that_waits_gets_each_token():
    mailbox = Mailbox(asyncio.get_running_loop())
    tokens = mailbox.read()
    for i in range(5):
        reading = asyncio.create_task(anext(tokens))
        await asyncio.sleep(0)
        write(mailbox, [Token(str(i), (i,), "length" if i == 4 else None)])
        assert (await reading).ids == (i,)
    assert [token async for token in tokens] == []


async def test_an_error_comes_after_what_was_drawn_before_it():
    mailbox = Mailbox(asyncio.get_running_loop())
    write(mailbox, [Token("a", (1,))])
    mailbox.fail(DeadlineExceeded("late"))
    tokens = mailbox.read()
    assert (await anext(tokens)).text == "a"
    with pytest.raises(DeadlineExceeded):
        await anext(tokens)
