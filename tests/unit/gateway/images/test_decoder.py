"""Decoding stays off the event loop, keeps the order, is bounded, and ends at the deadline."""

import asyncio
import hashlib
import os
import signal
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from qzoom.errors import DeadlineExceeded, Overloaded, UnsupportedMedia


def png(size, colour=0) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


async def test_pictures_keep_their_order(shared_decoder, request_of):
    files = [png((i + 1, 2), (i, 0, 0)) for i in range(8)]
    decoded = await shared_decoder.decode(request_of(*files))
    assert [image.size_px for image in decoded] == [(i + 1, 2) for i in range(8)]
    assert [image.pixels[0, 0, 0] for image in decoded] == list(range(8))


async def test_the_digest_is_over_size_and_pixels(shared_decoder, request_of):
    (image,) = await shared_decoder.decode(request_of(png((3, 2), (1, 2, 3))))
    shape = np.array([2, 3, 3], np.int64).tobytes()
    assert image.digest == hashlib.sha256(shape + bytes([1, 2, 3] * 6)).hexdigest()


async def test_pixels_outlive_the_next_picture_and_cannot_be_written(shared_decoder, request_of):
    (first,) = await shared_decoder.decode(request_of(png((4, 4), (7, 7, 7))))
    for _ in range(4):
        await shared_decoder.decode(request_of(png((4, 4), (9, 9, 9))))
    assert (first.pixels == 7).all()
    with pytest.raises(ValueError, match="read-only"):
        first.pixels[0] = 1


async def test_an_error_names_the_picture(shared_decoder, request_of):
    with pytest.raises(UnsupportedMedia) as error:
        await shared_decoder.decode(request_of(png((2, 2)), b"junk"))
    assert error.value.param == "image 1"


async def test_more_pictures_than_may_wait_are_refused(make_decoder, request_of):
    decoder = make_decoder(num_processes=1, max_waiting=1)
    (pid,) = decoder.pids
    os.kill(pid, signal.SIGSTOP)
    two = asyncio.create_task(decoder.decode(request_of(png((2, 2)), png((2, 2)))))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="2 pictures wait to be decoded, at most 2") as error:
        await decoder.decode(request_of(png((2, 2))))
    assert error.value.retry_after_s == 1
    os.kill(pid, signal.SIGCONT)
    await two
    await decoder.decode(request_of(png((2, 2)), png((2, 2))))


async def test_waiting_ends_at_the_deadline_and_frees_the_place(make_decoder, request_of):
    decoder = make_decoder(num_processes=1, max_waiting=1)
    (pid,) = decoder.pids
    os.kill(pid, signal.SIGSTOP)
    running = asyncio.create_task(decoder.decode(request_of(png((2, 2)))))
    await asyncio.sleep(0)
    for _ in range(3):  # More than there are places.
        with pytest.raises(DeadlineExceeded, match="deadline passed"):
            await decoder.decode(request_of(png((2, 2)), deadline_s=0.01))
    os.kill(pid, signal.SIGCONT)
    assert (await running)[0].size_px == (2, 2)


async def test_a_request_that_is_cancelled_frees_its_places(make_decoder, request_of):
    decoder = make_decoder(num_processes=1, max_waiting=2)
    (pid,) = decoder.pids
    os.kill(pid, signal.SIGSTOP)
    gone = asyncio.create_task(decoder.decode(request_of(png((2, 2)), png((3, 3)), png((4, 4)))))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    next_one = asyncio.create_task(decoder.decode(request_of(png((5, 5)), png((6, 6)))))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGCONT)
    assert [image.size_px for image in await next_one] == [(5, 5), (6, 6)]


async def test_an_abandoned_failure_is_not_reported(make_decoder, request_of, caplog):
    decoder = make_decoder(num_processes=1)
    broken = png((4000, 4000))[:-200]
    with pytest.raises(DeadlineExceeded):
        await decoder.decode(request_of(broken, deadline_s=0.001))
    await decoder.decode(request_of(png((2, 2))))
    assert not caplog.records


async def test_the_event_loop_goes_on_meanwhile(shared_decoder, request_of):
    work = asyncio.create_task(shared_decoder.decode(request_of(png((6000, 6000)))))
    turns = 0
    while not work.done():
        await asyncio.sleep(0.001)
        turns += 1
    await work
    assert turns > 10


def test_one_decoder_serves_several_event_loops(shared_decoder, request_of):
    for _ in range(3):
        assert asyncio.run(shared_decoder.decode(request_of(png((2, 2)))))
