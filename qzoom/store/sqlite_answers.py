"""Requests with an Idempotency-Key and their answers, in SQLite. Each within one transaction."""

import sqlite3

from qzoom.store.messages import Claim, Claimed, Keep

SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    tenant TEXT, key TEXT, fingerprint TEXT NOT NULL, owner TEXT NOT NULL, expires REAL NOT NULL,
    answer BLOB, kept REAL, PRIMARY KEY (tenant, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_by_age ON answers (kept) WHERE answer IS NOT NULL;
"""


def claim(db: sqlite3.Connection, claim: Claim, now: float) -> Claimed:
    """Find what is known of a request; what nobody holds any more is new."""
    db.execute("DELETE FROM answers WHERE expires <= ?", (now,))
    row = db.execute(
        "SELECT fingerprint, owner, answer FROM answers WHERE tenant = ? AND key = ?",
        (claim.tenant, claim.key),
    ).fetchone()
    if row is None:
        expires = now + claim.lease_s
        values = (claim.tenant, claim.key, claim.fingerprint, claim.owner, expires)
        db.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, NULL, NULL)", values)
        return Claimed("new")
    fingerprint, owner, answer = row
    if fingerprint != claim.fingerprint:
        return Claimed("other")
    if answer is not None:
        return Claimed("answered", answer)
    return Claimed("new" if owner == claim.owner else "running")


def renew(db: sqlite3.Connection, claim: Claim, now: float, lease_s: float) -> None:
    """Hold a claim; one that expired and was not taken by another attempt is taken again."""
    db.execute("DELETE FROM answers WHERE expires <= ?", (now,))
    db.execute(
        "INSERT INTO answers VALUES (?, ?, ?, ?, ?, NULL, NULL) ON CONFLICT DO UPDATE "
        "SET fingerprint = excluded.fingerprint, expires = excluded.expires "
        "WHERE owner = excluded.owner AND answer IS NULL",
        (claim.tenant, claim.key, claim.fingerprint, claim.owner, now + lease_s),
    )


def keep(db: sqlite3.Connection, keep: Keep, now: float) -> None:
    """Keep an answer, then let the oldest go until all fit."""
    claim = keep.claim
    db.execute("DELETE FROM answers WHERE expires <= ?", (now,))
    db.execute(
        "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
        "SET fingerprint = excluded.fingerprint, expires = excluded.expires, "
        "answer = excluded.answer, kept = excluded.kept "
        "WHERE owner = excluded.owner AND answer IS NULL",
        (
            claim.tenant,
            claim.key,
            claim.fingerprint,
            claim.owner,
            now + keep.keep_s,
            keep.answer,
            now,
        ),
    )
    _evict(db, "tenant = ?", (claim.tenant,), keep.max_tenant_bytes)
    _evict(db, "1", (), keep.max_bytes)


def release(db: sqlite3.Connection, claim: Claim) -> None:
    """Forget a claim that has no answer."""
    db.execute(
        "DELETE FROM answers WHERE tenant = ? AND key = ? AND owner = ? AND answer IS NULL",
        (claim.tenant, claim.key, claim.owner),
    )


def _evict(db: sqlite3.Connection, where: str, values: tuple[str, ...], max_bytes: int) -> None:
    # The newest answers that fit together stay; a window sums from the newest to the oldest.
    db.execute(
        "DELETE FROM answers WHERE (tenant, key) IN (SELECT tenant, key FROM ("
        "SELECT tenant, key, "
        "sum(length(answer)) OVER (ORDER BY kept DESC, tenant DESC, key DESC) AS total "
        f"FROM answers WHERE answer IS NOT NULL AND {where}) WHERE total > ?)",
        (*values, max_bytes),
    )
