"""The embedded store: one file that all gateways of a machine share, and the command line too.

SQLite needs no process of its own, keeps keys over restarts, and is atomic over processes that die
at any moment. The same class without a file is the state of one gateway that has lost its Redis.
"""

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from qzoom.errors import NotFound, TooLarge
from qzoom.store import sqlite_answers, sqlite_quotas
from qzoom.store.base import MAX_KEYS, MAX_SETTINGS, Clock, StoreUnavailable
from qzoom.store.limits import Amounts
from qzoom.store.messages import (
    Charge,
    Claim,
    Claimed,
    Configuration,
    Keep,
    KeyRecord,
    Renewal,
    Settlement,
    Verdict,
)
from qzoom.store.records import read, read_all
from qzoom.store.records import write as write_record

LOCK_TIMEOUT_S = 2.0
"""Longest wait for another process' transaction; each lasts less than a millisecond."""

SET_UP_TIMEOUT_S = 20.0
"""Longest wait for other processes that make the same file."""

_PRIMARY = 0xFF
"""SQLite's extended codes say in their higher bits why it is busy."""

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
{sqlite_quotas.SCHEMA}
{sqlite_answers.SCHEMA}
"""

Result = TypeVar("Result")


class SqliteStore:
    """A store in one file, or in memory for one process.

    Args:
        path: The file, made with its folder, for its owner alone; None keeps all in memory.
        clock: Unix time in seconds.

    Raises:
        StoreUnavailable: If the file cannot be used.
    """

    kind = "embedded"

    def __init__(self, path: Path | None, clock: Clock = time.time) -> None:
        self._clock = clock
        self._is_closed = False
        try:
            self._connection = _open(path)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"{path} cannot be used: {error}") from error
        # SQLite's calls block, so one thread makes them, one after the other.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    async def prepare(self) -> None:
        """Nothing makes the first question slow."""

    async def configuration(self, known_version: str) -> Configuration | None:
        """Return keys and settings; None if they are as in the version that is known."""

        def read(db: sqlite3.Connection) -> Configuration | None:
            row = db.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
            version = row[0] if row else ""
            if version == known_version:
                return None
            keys = read_all(text for (text,) in db.execute("SELECT record FROM keys"))
            settings = dict(db.execute("SELECT name, value FROM settings").fetchall())
            return Configuration(version, keys, settings)

        return await self._run(read)

    async def restore(self, known: Configuration) -> None:
        """Write keys and settings back where everything was lost; else change nothing."""

        def write(db: sqlite3.Connection) -> None:
            if db.execute("SELECT 1 FROM meta WHERE name = 'version'").fetchone():
                return
            records = [(record.id, write_record(record)) for record in known.keys.values()]
            db.executemany("INSERT INTO keys VALUES (?, ?)", records)
            db.executemany("INSERT INTO settings VALUES (?, ?)", list(known.settings.items()))
            _changed(db)

        await self._run(write)

    async def add_key(self, record: KeyRecord) -> None:
        """Keep a new key.

        Raises:
            TooLarge: If there are too many.
        """

        def write(db: sqlite3.Connection) -> None:
            (count,) = db.execute("SELECT count(*) FROM keys").fetchone()
            if count >= MAX_KEYS:
                raise TooLarge(f"there are {count} keys, at most {MAX_KEYS}")
            db.execute("INSERT INTO keys VALUES (?, ?)", (record.id, write_record(record)))
            _changed(db)

        await self._run(write)

    async def revoke_key(self, key_id: str, now: float) -> KeyRecord:
        """Let nobody in with a key from now on; the record stays.

        Raises:
            NotFound: If there is none with this id.
        """

        def write(db: sqlite3.Connection) -> KeyRecord:
            row = db.execute("SELECT record FROM keys WHERE id = ?", (key_id,)).fetchone()
            if row is None:
                raise NotFound(f"there is no key {key_id[:40]!a}")
            record = read(row[0])
            if record.revoked is None:
                record = replace(record, revoked=now)
                text = write_record(record)
                db.execute("UPDATE keys SET record = ? WHERE id = ?", (text, key_id))
                _changed(db)
            return record

        return await self._run(write)

    async def put_setting(self, name: str, value: str | None) -> None:
        """Write a runtime setting that has been checked; None removes it.

        Raises:
            TooLarge: If there are too many.
        """

        def write(db: sqlite3.Connection) -> None:
            if value is None:
                db.execute("DELETE FROM settings WHERE name = ?", (name,))
            else:
                (count,) = db.execute("SELECT count(*) FROM settings").fetchone()
                if count >= MAX_SETTINGS:
                    raise TooLarge(f"there are {count} settings, at most {MAX_SETTINGS}")
                db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))
            _changed(db)

        await self._run(write)

    async def admit(self, charge: Charge) -> Verdict:
        """Let a request begin and count it, or refuse it and count nothing."""
        return await self._run(lambda db: sqlite_quotas.admit(db, charge, self._clock()))

    async def adopt(self, tenant: str, second: int, used: Amounts) -> None:
        """Count at least what another store has counted for a tenant up to a second."""
        now = self._clock()
        await self._run(lambda db: sqlite_quotas.adopt(db, tenant, second, used, now))

    async def settle(self, settlement: Settlement) -> None:
        """Correct what was counted for a request, and give its place to another."""
        await self._run(lambda db: sqlite_quotas.settle(db, settlement))

    async def renew(self, renewals: Sequence[Renewal]) -> None:
        """Hold the places and claims of requests that are still worked on."""

        def write(db: sqlite3.Connection) -> None:
            now = self._clock()
            for renewal in renewals:
                sqlite_quotas.renew(db, renewal, now + renewal.lease_s)
                if renewal.claim is not None:
                    sqlite_answers.renew(db, renewal.claim, now, renewal.lease_s)

        await self._run(write)

    async def claim(self, claim: Claim) -> Claimed:
        """Ask whether a request with an Idempotency-Key is new."""
        return await self._run(lambda db: sqlite_answers.claim(db, claim, self._clock()))

    async def keep(self, keep: Keep) -> None:
        """Keep an answer, unless its claim belongs to another attempt by now."""
        await self._run(lambda db: sqlite_answers.keep(db, keep, self._clock()))

    async def release(self, claim: Claim) -> None:
        """Forget a claim without an answer, so that the client may try again."""
        await self._run(lambda db: sqlite_answers.release(db, claim))

    async def close(self) -> None:
        """Close the file after what is being done; nothing happens the second time."""
        if self._is_closed:
            return
        self._is_closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do some work as one transaction, in the store's thread."""

        def transaction() -> Result:
            with _transaction(self._connection):
                return work(self._connection)

        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, transaction)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"SQLite: {error}") from error


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    connection = sqlite3.connect(
        path or ":memory:",
        timeout=LOCK_TIMEOUT_S,
        isolation_level=None,  # We begin and end transactions ourselves.
        check_same_thread=False,
    )
    try:
        _set_up(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + SET_UP_TIMEOUT_S
    while True:
        try:
            # Writers do not hold up readers, and a commit waits for no disk; a machine that loses
            # power may lose its last second, a process that is killed loses nothing.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
            return
        except sqlite3.OperationalError as error:
            # Gateways start together, and SQLite waits for no other's change of the journal.
            is_busy = error.sqlite_errorcode & _PRIMARY == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _changed(db: sqlite3.Connection) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES ('version', ?)", (secrets.token_hex(8),))
