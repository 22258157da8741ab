"""What was computed before? Bounded in bytes, what was not used for longest goes first.

`ByteLru` keeps values by key. `PrefixCache` keeps the blocks of prompts: a block is usable only
behind the blocks before it, so that they are looked up from the start and evicted from the end.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Generic, TypeVar

from qzoom.contracts.stages import CacheUse, Prompt

Value = TypeVar("Value")


class ByteLru(Generic[Value]):
    """Values by key. Safe to use from several threads.

    Args:
        max_bytes: Most that it holds; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[bytes, tuple[Value, int]] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    @property
    def is_on(self) -> bool:
        """Whether anything is ever kept."""
        return self._max_bytes > 0

    @property
    def num_bytes(self) -> int:
        """What it holds."""
        return self._num_bytes

    def __len__(self) -> int:
        """Number of values that it holds."""
        return len(self._values)

    def get(self, key: bytes) -> Value | None:
        """Return the value, which now counts as used last; None if it is not there."""
        with self._lock:
            entry = self._values.get(key)
            if entry is None:
                return None
            self._values.move_to_end(key)
            return entry[0]

    def put(self, key: bytes, value: Value, num_bytes: int) -> None:
        """Keep a value, in the place of those not used for longest; one that never fits is dropped.

        Args:
            key: Its name.
            value: Shared from now on with whoever asks for it; nobody may change it.
            num_bytes: Its size.
        """
        with self._lock:
            self._drop(key)
            if num_bytes > self._max_bytes or not self.is_on:
                return
            self._values[key] = (value, num_bytes)
            self._num_bytes += num_bytes
            while self._num_bytes > self._max_bytes:
                self._drop(next(iter(self._values)))

    def discard(self, key: bytes) -> None:
        """Forget a value, if it is there."""
        with self._lock:
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        entry = self._values.pop(key, None)
        if entry is not None:
            self._num_bytes -= entry[1]


class PrefixCache(Generic[Value]):
    """Blocks of prompts by the chain of their keys.

    Args:
        max_bytes: Most that it holds; 0 keeps nothing.
        size_of: Bytes of a block.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[Value], int]) -> None:
        self._blocks = ByteLru[Value](max_bytes)
        self._size_of = size_of

    @property
    def is_on(self) -> bool:
        """Whether anything is ever kept."""
        return self._blocks.is_on

    @property
    def num_bytes(self) -> int:
        """What it holds."""
        return self._blocks.num_bytes

    def find(self, keys: Sequence[bytes]) -> list[Value]:
        """Return the longest run of blocks from the start that are there."""
        found = []
        for key in keys:
            block = self._blocks.get(key)
            if block is None:
                break
            found.append(block)
        # A block without the ones before it is useless: let those be the last to go.
        for key in reversed(keys[: len(found)]):
            self._blocks.get(key)
        return found

    def put(self, keys: Sequence[bytes], blocks: Sequence[Value]) -> None:
        """Keep a run of blocks from the start."""
        for key, block in reversed(list(zip(keys, blocks, strict=True))):
            self._blocks.put(key, block, self._size_of(block))


def usable(prompt: Prompt, keys: Sequence[bytes]) -> Sequence[bytes]:
    """Leave out a block that ends the prompt: something must be left to compute."""
    return keys[: sum(end < len(prompt.ids) for end in prompt.block_ends)]


def end_of(prompt: Prompt, blocks: Sequence[object]) -> int:
    """Tokens that the first blocks of a prompt cover."""
    return prompt.block_ends[len(blocks) - 1] if blocks else 0


@dataclass(frozen=True, slots=True)
class Chain(Generic[Value]):
    """The blocks that one request of a batch needs.

    Attributes:
        prompt: Its prompt.
        keys: Of all its blocks.
        found: Blocks that were known when it arrived.
    """

    prompt: Prompt
    keys: tuple[bytes, ...]
    found: Sequence[Value]


class SharedBatch(Generic[Value]):
    """A batch in which no block is computed twice. Lives for one batch, in the compute thread.

    Requests that need a block which another one is about to compute wait for the next round.

    Args:
        cache: Where blocks are looked up and kept; where it is off, nothing is shared.
        chains: One per request.
    """

    def __init__(self, cache: PrefixCache[Value], chains: Sequence[Chain[Value]]) -> None:
        self._cache = cache
        self._chains = chains
        self._fresh: dict[bytes, Value] = {}

    def rounds(self) -> Iterator[dict[int, list[Value]]]:
        """Yield the requests of each round with what they reuse; tell `learn` before the next."""
        waiting = list(range(len(self._chains)))
        while waiting:
            claimed: set[bytes] = set()
            now: dict[int, list[Value]] = {}
            for index in waiting:
                known = self._known(self._chains[index])
                needs = set(self._chains[index].keys[len(known) :]) if self._cache.is_on else set()
                if not needs & claimed:
                    claimed |= needs
                    now[index] = known
            yield now
            waiting = [index for index in waiting if index not in now]

    def learn(self, index: int, blocks: Sequence[Value]) -> None:
        """Keep all blocks of a request of this round."""
        if self._cache.is_on:
            self._fresh |= zip(self._chains[index].keys, blocks, strict=True)
            self._cache.put(self._chains[index].keys, blocks)

    def use(self, index: int, reused: Sequence[Value]) -> CacheUse | None:
        """Say what one request was spared; None where nothing is kept."""
        if not self._cache.is_on:
            return None
        prompt = self._chains[index].prompt
        num_reused = end_of(prompt, reused)
        return CacheUse(num_reused, prompt.prefix_len - num_reused, self._cache.num_bytes)

    def _known(self, chain: Chain[Value]) -> list[Value]:
        keys = usable(chain.prompt, chain.keys)
        shared = [self._fresh[key] for key in takewhile(self._fresh.__contains__, keys)]
        return max(list(chain.found), self._cache.find(keys), shared, key=len)
