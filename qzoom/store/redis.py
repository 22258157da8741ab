"""The store for gateways on several machines: Redis, with one script for each change.

Scripts run alone inside Redis, so quotas are exact whatever the number of gateways, and take the
time of Redis' machine, so the clocks of gateways do not matter. All names begin with one prefix
in braces, which keeps them together on one node.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, cast

from redis.asyncio import Redis

from qzoom.errors import NotFound, TooLarge
from qzoom.store.base import MAX_KEYS, MAX_SETTINGS, Clock, StoreUnavailable
from qzoom.store.connecting import connect, translated
from qzoom.store.limits import WINDOW_S, Amounts, Resource
from qzoom.store.messages import (
    Charge,
    Claim,
    Claimed,
    ClaimState,
    Configuration,
    Keep,
    KeyRecord,
    Renewal,
    Settlement,
    Verdict,
)
from qzoom.store.passwords import Passwords
from qzoom.store.records import read, read_all, write

READY_CONNECTIONS = 4
"""Opened before anybody waits for one."""

SCRIPTS = ("admit", "claim", "hold", "keep", "release", "restore", "revoke", "settle", "write")
REPLICATED_S = 1.0
"""How long a key or setting may take to reach a replica, where Sentinels watch over several."""

_REFUSED_BY: dict[str, Any] = {
    "": None,
    "concurrency": "concurrency",
    **{str(number): resource for number, resource in enumerate(Resource, 1)},
}


class RedisStore:
    """A store in Redis.

    Args:
        url: As `connect` takes it, without a password.
        passwords: That the servers ask for; None where they ask for none.
        namespace: Begins every name, so that several systems may share a Redis.
        clock: Unix time in seconds; None takes the time of Redis.

    Raises:
        ValueError: If the address is not one of Redis.
    """

    kind = "redis"

    def __init__(
        self,
        url: str,
        passwords: Passwords | None = None,
        namespace: str = "qzoom",
        clock: Clock | None = None,
    ) -> None:
        self._prefix = f"{{{namespace}}}:"
        self._clock = clock
        self._connected = connect(url, passwords or Passwords())
        self._redis = self._connected.redis
        self._scripts: dict[str, Callable[..., Awaitable[Any]]] = {}

    async def prepare(self) -> None:
        """Open connections and hand the scripts over."""
        async with translated():
            await self._connected.forget()
            pings = [self._redis.ping() for _ in range(READY_CONNECTIONS)]
            # All of them, also where one fails: what still connects would outlive the store.
            for outcome in await asyncio.gather(*pings, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
            for script in SCRIPTS:
                await self._redis.script_load(_source(script))

    async def configuration(self, known_version: str) -> Configuration | None:
        """Return keys and settings; None if they are as in the version that is known."""
        async with translated():
            version = _text(await self._redis.get(self._name("version")) or b"")
            if version == known_version:
                return None
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.get(self._name("version"))
            pipeline.hvals(self._name("keys"))
            pipeline.hgetall(self._name("settings"))
            version, records, settings = await pipeline.execute()
        return Configuration(
            _text(version or b""),
            read_all(records),
            {_text(name): _text(value) for name, value in settings.items()},
        )

    async def restore(self, known: Configuration) -> None:
        """Write keys and settings back where everything was lost; else change nothing."""
        values = [_version(), str(len(known.keys))]
        for record in known.keys.values():
            values += [record.id, write(record)]
        for name, value in known.settings.items():
            values += [name, value]
        await self._run("restore", ["keys", "settings", "version"], values)

    async def add_key(self, record: KeyRecord) -> None:
        """Keep a new key.

        Raises:
            TooLarge: If there are too many.
        """
        await self._write("keys", MAX_KEYS, record.id, write(record))

    async def revoke_key(self, key_id: str, now: float) -> KeyRecord:
        """Let nobody in with a key from now on; the record stays.

        Raises:
            NotFound: If there is none with this id.
        """
        values = [_version(), key_id, repr(now)]
        record = await self._run_replicated("revoke", ["keys", "version"], values)
        if record is None:
            raise NotFound(f"there is no key {key_id[:40]!a}")
        assert isinstance(record, bytes)
        return read(record)

    async def put_setting(self, name: str, value: str | None) -> None:
        """Write a runtime setting that has been checked; None removes it.

        Raises:
            TooLarge: If there are too many.
        """
        await self._write("settings", MAX_SETTINGS, name, value)

    async def admit(self, charge: Charge) -> Verdict:
        """Let a request begin and count it, or refuse it and count nothing."""
        limits = (*charge.limits.per_minute, charge.limits.concurrency)
        reply = await self._run(
            "admit",
            [f"usage:{charge.tenant}", f"leases:{charge.tenant}"],
            [
                self._now(),
                charge.lease,
                charge.lease_s,
                WINDOW_S,
                *charge.amounts,
                *("" if limit is None else limit for limit in limits),
            ],
        )
        assert isinstance(reply, list)
        refused_by, retry_after_s, *numbers = map(_text, reply)
        used, reset, (running, second) = numbers[0:3], numbers[3:6], numbers[6:8]
        return Verdict(
            refused_by=_REFUSED_BY[refused_by],
            retry_after_s=float(retry_after_s),
            used=Amounts(*map(int, used)),
            reset_s=(float(reset[0]), float(reset[1]), float(reset[2])),
            running=int(running),
            second=int(second),
        )

    async def settle(self, settlement: Settlement) -> None:
        """Correct what was counted for a request, and give its place to another."""
        await self._run(
            "settle",
            [f"usage:{settlement.tenant}", f"leases:{settlement.tenant}"],
            [settlement.lease, settlement.second, *settlement.correction],
        )

    async def renew(self, renewals: Sequence[Renewal]) -> None:
        """Hold the places and claims of requests that are still worked on."""
        if not renewals:
            return
        async with translated():
            now = await self._time()
            pipeline = self._redis.pipeline(transaction=False)
            for renewal in renewals:
                if renewal.lease is None:
                    continue
                leases = self._name(f"leases:{renewal.tenant}")
                pipeline.zadd(leases, {renewal.lease: now + renewal.lease_s})
                pipeline.expire(leases, int(renewal.lease_s) + WINDOW_S)
            if len(pipeline):
                await pipeline.execute()
        for renewal in renewals:
            if renewal.claim is not None:
                await self._run(
                    "hold", [_claim_name(renewal.claim)], self._claim_values(renewal.claim)
                )

    async def claim(self, claim: Claim) -> Claimed:
        """Ask whether a request with an Idempotency-Key is new."""
        reply = await self._run("claim", [_claim_name(claim)], self._claim_values(claim))
        assert isinstance(reply, list)
        state, *answer = reply
        return Claimed(cast(ClaimState, _text(state)), answer[0] if answer else None)

    async def keep(self, keep: Keep) -> None:
        """Keep an answer, unless its claim belongs to another attempt by now."""
        claim = keep.claim
        names = ["answers", f"answers:{claim.tenant}", "answer-sizes", "answer-totals"]
        await self._run(
            "keep",
            [_claim_name(claim), *names],
            [
                self._now(),
                claim.fingerprint,
                claim.owner,
                keep.keep_s,
                keep.answer,
                claim.tenant,
                claim.key,
                keep.max_tenant_bytes,
                keep.max_bytes,
                self._name("answer:"),
                self._name("answers:"),
            ],
        )

    async def release(self, claim: Claim) -> None:
        """Forget a claim without an answer, so that the client may try again."""
        await self._run("release", [_claim_name(claim)], [claim.owner])

    async def close(self) -> None:
        """Let go of the connections."""
        await self._connected.close()

    async def _write(self, table: str, most: int, field: str, value: str | None) -> None:
        values = [] if value is None else [value]
        values = [_version(), str(most), field, *values]
        count = await self._run_replicated("write", [table, "version"], values)
        assert isinstance(count, int)
        if count >= 0:
            raise TooLarge(f"there are {count} {table}, at most {most}")

    async def _run(
        self,
        script: str,
        names: Sequence[str],
        values: Sequence[object],
        client: Redis | None = None,
    ) -> object:
        """Run a script; what it gives back is its own affair."""
        if script not in self._scripts:
            self._scripts[script] = self._redis.register_script(_source(script))
        async with translated():
            return await self._scripts[script](
                keys=[*map(self._name, names)], args=values, client=client
            )

    async def _run_replicated(
        self, script: str, names: Sequence[str], values: Sequence[object]
    ) -> object:
        """Run a script whose effect outlives a failover: a replica must have it, too.

        A key that was revoked and comes back is worse than a command that has to be repeated.
        """
        if self._connected.sentinel is None:
            return await self._run(script, names, values)
        async with translated(), self._redis.client() as one:
            reply = await self._run(script, names, values, one)
            copies = await one.wait(1, int(REPLICATED_S * 1000))
        if not copies:
            raise StoreUnavailable(
                f"Redis has it, but no replica within {REPLICATED_S:g} s; it may be lost, repeat"
            )
        return reply

    def _claim_values(self, claim: Claim) -> list[object]:
        return [self._now(), claim.fingerprint, claim.owner, claim.lease_s]

    def _name(self, name: str) -> str:
        return self._prefix + name

    def _now(self) -> str:
        return "" if self._clock is None else repr(self._clock())

    async def _time(self) -> float:
        if self._clock is not None:
            return self._clock()
        seconds, microseconds = await self._redis.time()
        return float(seconds) + microseconds / 1e6


def _claim_name(claim: Claim) -> str:
    return f"answer:{claim.tenant}:{claim.key}"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _version() -> str:
    return secrets.token_hex(8)


@cache
def _source(script: str) -> str:
    return (files("qzoom.store") / "lua" / f"{script}.lua").read_text(encoding="utf-8")
