"""Measures the way of the prefill state from one replica to another, through the object store.

As in the real system: the producer has written its tensors into one buffer and yields it behind a
small reply, the caller passes the reference on unopened, the consumer views the buffer and copies
it into its own cache.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import numpy as np
import torch
from ray import serve
from ray.serve import Deployment
from ray.serve.handle import DeploymentHandle

from benchmarks.servers.child import arguments, live, own_output
from benchmarks.servers.own_ray import own_serve
from gateway.remote import Patience, streamed
from qzoom.contracts.tensors import Buffer, BundleHeader
from qzoom.model.handoff import allocate, pack_part, unpack
from qzoom.model.state import StatePart
from qzoom.serving.references import read_buffers

DEADLINE_S = 60.0
LAYERS, KV_HEADS, HEAD_SIZE, HIDDEN = 18, 4, 128, 3584
"""Of Qwen2.5-VL-7B below B = 18."""

MAX_BY_VALUE = 2 * 10**6
"""A message of Serve's gRPC transport may have twice as much."""

BYTES_PER_TOKEN = 2 * (2 * LAYERS * KV_HEADS * HEAD_SIZE + HIDDEN)
"""In bfloat16."""


def state_of(tokens: int) -> StatePart:
    """Make the state of some tokens, where a prefill leaves it."""
    shapes = {"kv": (LAYERS, 2, KV_HEADS, tokens, HEAD_SIZE), "hidden": (tokens, HIDDEN)}
    header, buffer, views = allocate(shapes, torch.bfloat16)
    return StatePart(views["kv"].fill_(1.0), views["hidden"].fill_(1.0), (header, buffer))


def room_for(tokens: int) -> dict[str, torch.Tensor]:
    """Make the consumer's memory: a slot of its cache is longer than what comes."""
    kv = torch.zeros(LAYERS, 2, KV_HEADS, tokens + 24, HEAD_SIZE, dtype=torch.bfloat16)
    return {
        "kv": kv[..., :tokens, :].fill_(1.0),
        "hidden": torch.ones(tokens, HIDDEN, dtype=torch.bfloat16),
    }


@serve.deployment
class Producer:
    """Yields the state of as many tokens as are asked for."""

    def __init__(self) -> None:
        self._states: dict[int, StatePart] = {}

    async def answer(
        self, tokens: int, references: Sequence[Any]
    ) -> AsyncGenerator[tuple[BundleHeader, float] | Buffer, None]:
        """Yield the header with the seconds of packing, then the buffer."""
        del references
        if tokens not in self._states:
            self._states[tokens] = state_of(tokens)
        began = time.perf_counter()
        header, buffer = pack_part(self._states[tokens])
        yield header, time.perf_counter() - began
        yield buffer


@serve.deployment
class Consumer:
    """Copies a state into its own memory."""

    def __init__(self) -> None:
        self._own: dict[int, dict[str, torch.Tensor]] = {}

    async def answer(
        self, header: BundleHeader, references: Sequence[Any]
    ) -> AsyncGenerator[float, None]:
        """Yield the seconds of viewing and copying."""
        (buffer,) = await read_buffers(references, time.time() + DEADLINE_S)
        began = time.perf_counter()
        tensors = unpack(header, buffer)
        tokens = len(tensors["hidden"])
        if tokens not in self._own:
            self._own[tokens] = room_for(tokens)
        for name, tensor in tensors.items():
            self._own[tokens][name].copy_(tensor)
        yield time.perf_counter() - began


def main() -> None:
    """Measure, and say what was found. Arguments: `tokens`, a list; `rounds`."""
    messages, given = own_output(), arguments()
    with own_serve():
        free = {"num_cpus": 0}
        for name, stage in (("producer", Producer), ("consumer", Consumer)):
            bound = cast(Deployment, stage).options(name=name, ray_actor_options=free).bind()
            serve.run(bound, name=name, route_prefix=None)
        producer = serve.get_deployment_handle("producer", "producer")
        consumer = serve.get_deployment_handle("consumer", "consumer")
        found = asyncio.run(_measure(producer, consumer, given["tokens"], given["rounds"]))
        live(messages, {"found": found}, {})


async def _measure(
    producer: DeploymentHandle[Any],
    consumer: DeploymentHandle[Any],
    sizes: list[int],
    rounds: int,
) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {str(tokens): [] for tokens in sizes}
    for number in range(rounds + 3):
        for tokens in sizes:
            one = await _hand_over(producer, consumer, tokens)
            if tokens * BYTES_PER_TOKEN <= MAX_BY_VALUE:
                inside = await _hand_over(producer, consumer, tokens, by_value=True)
                one["by_value_s"] = inside["whole_s"]
            one["memcpy_s"] = _memcpy(tokens * BYTES_PER_TOKEN)
            if number >= 3:
                found[str(tokens)].append(one)
    return found


async def _hand_over(
    producer: DeploymentHandle[Any],
    consumer: DeploymentHandle[Any],
    tokens: int,
    *,
    by_value: bool = False,
) -> dict[str, float]:
    patience, began = Patience(time.time() + DEADLINE_S), time.perf_counter()
    async with streamed(producer, "answer", tokens, [], patience, by_value=by_value) as results:
        header, pack_s = await results.message()
        state = await results.buffer()
    async with streamed(consumer, "answer", header, [state], patience, by_value=by_value) as found:
        copy_s = await found.message()
    return {"whole_s": time.perf_counter() - began, "pack_s": pack_s, "copy_s": copy_s}


_warm: dict[int, tuple[np.ndarray, np.ndarray]] = {}


def _memcpy(num_bytes: int) -> float:
    """Seconds of copying as many bytes between two buffers that are in memory already."""
    if num_bytes not in _warm:
        source = np.ones(num_bytes, np.uint8)
        _warm[num_bytes] = source, source.copy()
    source, target = _warm[num_bytes]
    began = time.perf_counter()
    np.copyto(target, source)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
