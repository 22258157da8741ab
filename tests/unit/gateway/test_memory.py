"""What a gateway keeps of pictures: bounded, by content, and forgotten when it has died."""

import gc
import weakref

from gateway.memory import MAX_BLOCKS_PER_PICTURE, PictureMemory
from gateway.reply import Reply
from qzoom.contracts.stages import Encoded, Timing
from qzoom.contracts.tensors import BundleHeader


class Reference:
    """Stands for a `ray.ObjectRef`: what counts is who holds it."""


def encoded(num_bytes):
    return Encoded((1, 2), 2, BundleHeader((), num_bytes), Timing(0.0, 0.0, 1), b"picture")


def test_an_encoding_outlives_the_request_that_made_it():
    memory = PictureMemory(400)
    reply = Reply(encoded(60), ["reference"])
    memory.keep_encoding(b"key", reply)
    reply.buffers.clear()
    assert memory.encoding(b"key").buffers == ["reference"]
    assert memory.encoding(b"other") is None
    assert memory.num_bytes == 60


def test_what_goes_frees_its_object():
    memory = PictureMemory(400)
    reference = Reference()
    is_held = weakref.ref(reference)
    memory.keep_encoding(b"a", Reply(encoded(60), [reference]))
    del reference
    memory.keep_encoding(b"b", Reply(encoded(60), [Reference()]))
    gc.collect()
    assert is_held() is None
    assert memory.encoding(b"a") is None


def test_blocks_are_found_by_their_picture():
    memory = PictureMemory(400)
    memory.keep_blocks(b"p", {b"1": ("one", 100)})
    memory.keep_blocks(b"p", {b"2": ("two", 100)})
    memory.keep_blocks(b"q", {b"3": ("three", 100)})
    assert memory.blocks([b"p"]) == {b"1": "one", b"2": "two"}
    assert memory.blocks([b"q", b"p"]) == {b"1": "one", b"2": "two", b"3": "three"}
    memory.keep_blocks(b"q", {b"4": ("four", 100)})
    assert memory.blocks([b"p", b"q"]) != {}
    assert memory.num_bytes <= 300


def test_few_texts_before_one_picture_are_offered():
    memory = PictureMemory(10**6)
    for i in range(MAX_BLOCKS_PER_PICTURE + 3):
        memory.keep_blocks(b"p", {bytes([i]): (i, 1)})
    assert list(memory.blocks([b"p"]).values()) == list(range(3, MAX_BLOCKS_PER_PICTURE + 3))


def test_what_has_died_is_replaced():
    memory = PictureMemory(400)
    for name in ("dead", "new"):
        memory.keep_encoding(b"key", Reply(encoded(60), [name]))
        memory.keep_blocks(b"p", {b"1": (name, 100)})
    assert memory.encoding(b"key").buffers == ["new"]
    assert (memory.blocks([b"p"]), memory.num_bytes) == ({b"1": "new"}, 160)


def test_a_memory_of_no_bytes_keeps_nothing():
    memory = PictureMemory(0)
    memory.keep_encoding(b"key", Reply(encoded(0), ["reference"]))
    memory.keep_blocks(b"p", {b"1": ("one", 0)})
    assert memory.encoding(b"key") is None
    assert memory.blocks([b"p"]) == {}
