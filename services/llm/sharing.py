"""What do requests share in the llm? Keys and values of all layers of their first blocks."""

from collections.abc import Sequence

from torch import Tensor

from qzoom.contracts.stages import CacheUse
from qzoom.model.cache import SlotCache
from qzoom.serving.prefixes import PrefixCache
from services.llm.job import Job
from services.llm.progress import Prefilling


class Sharing:
    """Blocks that were computed, in the words of the scheduler.

    Args:
        prefixes: Holds the blocks.
        cache: The slots that they are copied from.
    """

    def __init__(self, prefixes: PrefixCache[Tensor], cache: SlotCache) -> None:
        self._prefixes = prefixes
        self._cache = cache

    def past(self, job: Job) -> Sequence[Tensor]:
        """Return the first blocks of a request, as far as they are known."""
        return max(self._prefixes.find(job.prefix.keys), job.prefix.found, key=len)

    def missing(self, job: Job, past: Sequence[Tensor]) -> frozenset[bytes]:
        """Return the keys of the blocks that a request has to compute, and others may wait for.

        Args:
            job: The request.
            past: What it need not compute.
        """
        return frozenset(job.prefix.keys[len(past) :]) if self._prefixes.is_on else frozenset()

    def keep(self, one: Prefilling) -> None:
        """Copy the blocks that a request has computed out of its slot."""
        if not self._prefixes.is_on or not one.missing:
            return
        prefix, num_past = one.job.prefix, len(one.past)
        of_slot = self._cache.kv[:, :, one.resumption.slot]
        starts = (0, *prefix.ends)[num_past:-1]
        new = [
            of_slot[..., start:end, :].clone()
            for start, end in zip(starts, prefix.ends[num_past:], strict=True)
        ]
        self._prefixes.put(prefix.keys, [*one.past, *new])

    def use(self, one: Prefilling) -> CacheUse | None:
        """Say what a request was spared; None where nothing is kept."""
        if not self._prefixes.is_on:
            return None
        ends, num_past = one.job.prefix.ends, len(one.past)
        reused = ends[num_past - 1] if num_past else 0
        return CacheUse(reused, (ends[-1] if ends else 0) - reused, self._prefixes.num_bytes)
