"""Was this asked before? A request with an Idempotency-Key is answered once, and told again.

A client that saw no answer sends the request again with the same key: it gets the answer that was
given, over REST or gRPC, or is told that the first attempt still runs. Only whole answers are kept;
a request that failed or was given up may be tried again with the same key.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from pydantic import TypeAdapter, ValidationError

from gateway.access.guard import GuardedStore
from gateway.access.leases import LEASE_S, Leases
from gateway.access.report import Keyed
from gateway.events import Delta, Event, Finished, Started
from qzoom.contracts.request import AnswerRequest
from qzoom.errors import KeyInUse, KeyReused
from qzoom.store.base import Store
from qzoom.store.messages import Claim, Claimed, Keep, Renewal

MAX_ANSWER_BYTES = 256 * 1024
"""A longer answer, which needs a very large heat map, is not kept."""

MAX_TENANT_BYTES = 8 * 1024 * 1024
MAX_BYTES = 64 * 1024 * 1024
"""Kept for one tenant, and for all; beyond, the oldest are forgotten before their time."""

RETRY_S = 1.0
_HASH_IN_THREAD_BYTES = 1024 * 1024
PARAM = "idempotency-key"


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it is kept.

    Attributes:
        request_id: Name of the request that was answered.
        received: Unix time in seconds at which it came.
        started: The first event.
        text: All pieces together.
        num_tokens: Of the text.
        finished: The last event.
    """

    request_id: str
    received: float
    started: Started
    text: str
    num_tokens: int
    finished: Finished

    def events(self) -> Iterator[Event]:
        """Tell it again, the text in one piece."""
        yield self.started
        if self.text or self.num_tokens:
            yield Delta(self.text, self.num_tokens)
        yield self.finished


_STORED = TypeAdapter(StoredAnswer)


@dataclass(slots=True)
class Attempt:
    """One request with a key, or without one.

    Attributes:
        stored: The answer that was given before; None where it must be found.
    """

    stored: StoredAnswer | None = None
    claim: Claim | None = None
    store: Store | None = None
    started: Started | None = None
    deltas: list[Delta] = field(default_factory=list)
    is_kept: bool = False


class Replays:
    """Knows the requests with a key. Owns the releases that are under way.

    Args:
        guard: The store.
        leases: Renews claims.
        keep_s: Seconds for which an answer is kept.
    """

    def __init__(self, guard: GuardedStore, leases: Leases, keep_s: float) -> None:
        self._guard = guard
        self._leases = leases
        self._keep_s = keep_s
        self._ending: set[asyncio.Future[None]] = set()

    async def begin(self, request: AnswerRequest, owner: str) -> Attempt:
        """Ask whether a request was answered before; if not, it is this attempt's to answer.

        Args:
            request: Which one.
            owner: Names the attempt, uniquely.

        Raises:
            KeyInUse: If another attempt works on it.
            KeyReused: If the key belongs to another request.
        """
        if request.idempotency_key is None:
            return Attempt()
        size = sum(len(image) for image in request.images if isinstance(image, bytes))
        if size > _HASH_IN_THREAD_BYTES:
            digest = await asyncio.to_thread(fingerprint, request)
        else:
            digest = fingerprint(request)
        claim = Claim(request.tenant, request.idempotency_key, digest, owner, LEASE_S)
        claiming = asyncio.ensure_future(
            self._guard.call("claim", lambda store: store.claim(claim))
        )
        try:
            claimed, store = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # Who has left must not leave a claim behind that was made a moment later.
            claiming.add_done_callback(lambda done: self._undo(claim, done))
            raise
        match claimed.state:
            case "new":
                self._leases.hold(_lease(owner), Renewal(request.tenant, None, claim, LEASE_S))
                return Attempt(claim=claim, store=store)
            case "answered":
                return Attempt(stored=unpack(claimed.answer or b""))
            case "running":
                raise KeyInUse(
                    "a request with this Idempotency-Key is being worked on",
                    param=PARAM,
                    retry_after_s=RETRY_S,
                )
            case "other":
                raise KeyReused(
                    "this Idempotency-Key belongs to a request with another content", param=PARAM
                )

    async def saw(self, attempt: Attempt, request: AnswerRequest, event: Event) -> Keyed | None:
        """Note an event; with the last one the answer is kept, before the client gets it."""
        if attempt.claim is None or attempt.store is None:
            return None
        match event:
            case Started():
                attempt.started = event
                attempt.deltas.clear()
                return None
            case Delta():
                attempt.deltas.append(event)
                return None
            case Finished():
                return await self._keep(attempt, attempt.claim, attempt.store, request, event)

    async def end(self, attempt: Attempt) -> None:
        """Let the client try again, unless the answer was kept."""
        claim, store = attempt.claim, attempt.store
        if claim is None or store is None:
            return
        self._leases.drop(_lease(claim.owner))
        if not attempt.is_kept:
            await asyncio.shield(self._release(claim, store))

    async def close(self) -> None:
        """Wait for what is being released, which is bounded."""
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _release(self, claim: Claim, store: Store) -> "asyncio.Future[None]":
        async def release() -> None:
            await self._guard.on(store, "release", lambda store: store.release(claim))

        ending = asyncio.ensure_future(release())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return ending

    def _undo(self, claim: Claim, done: "asyncio.Future[tuple[Claimed, Store]]") -> None:
        if done.cancelled() or done.exception() is not None:
            return
        claimed, store = done.result()
        if claimed.state == "new":
            self._release(claim, store)

    async def _keep(
        self,
        attempt: Attempt,
        claim: Claim,
        store: Store,
        request: AnswerRequest,
        finished: Finished,
    ) -> Keyed | None:
        assert attempt.started is not None, "an answer ends after it has started"
        stored = StoredAnswer(
            request.envelope.request_id or request.request_id,
            request.envelope.received or time.time(),
            attempt.started,
            "".join(delta.text for delta in attempt.deltas),
            sum(delta.num_tokens for delta in attempt.deltas),
            finished,
        )
        packed = _STORED.dump_json(stored)
        if len(packed) > MAX_ANSWER_BYTES:
            return "too_large"
        keep = Keep(claim, packed, self._keep_s, MAX_TENANT_BYTES, MAX_BYTES)
        attempt.is_kept = await self._guard.on(store, "keep", lambda store: store.keep(keep))
        return "stored" if attempt.is_kept else None


def unpack(packed: bytes) -> StoredAnswer | None:
    """Read what was kept; None if another version kept it, so that it is answered anew."""
    try:
        return _STORED.validate_json(packed)
    except ValidationError:
        return None


def fingerprint(request: AnswerRequest) -> str:
    """Digest everything that the answer depends on, and whether it is a stream."""
    parts = {
        "model": request.model,
        "conversation": [asdict(turn) for turn in request.conversation],
        # A picture that must be fetched is what its client says about it: its address.
        "images": [
            hashlib.sha256(image).hexdigest() if isinstance(image, bytes) else repr(image)
            for image in request.images
        ],
        "sampling": asdict(request.sampling),
        "options": asdict(request.options),
        "stream": request.stream,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _lease(owner: str) -> str:
    return f"claim:{owner}"
