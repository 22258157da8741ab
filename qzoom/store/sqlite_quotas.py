"""Quotas and places of tenants, in SQLite. Each function runs within one transaction."""

import sqlite3
from typing import Literal

from qzoom.store.limits import Amounts, Resource
from qzoom.store.messages import Charge, Renewal, Settlement, Verdict
from qzoom.store.window import Usage, oldest_second, reset_s, wait_s

SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    tenant TEXT, second INTEGER, requests INTEGER NOT NULL, visual INTEGER NOT NULL,
    generated INTEGER NOT NULL, PRIMARY KEY (tenant, second)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (
    tenant TEXT, lease TEXT, expires REAL NOT NULL, PRIMARY KEY (tenant, lease)
) WITHOUT ROWID;
"""

BUSY_RETRY_S = 1.0
"""When to try again where too many requests run: nobody knows when one of them ends."""


def admit(db: sqlite3.Connection, charge: Charge, now: float) -> Verdict:
    """Let a request begin and count it, or refuse it and count nothing."""
    tenant, second = charge.tenant, int(now)
    db.execute("DELETE FROM usage WHERE second < ?", (oldest_second(now),))
    db.execute("DELETE FROM leases WHERE expires <= ?", (now,))
    rows = db.execute(
        "SELECT second, requests, visual, generated FROM usage WHERE tenant = ? ORDER BY second",
        (tenant,),
    ).fetchall()
    usages: list[Usage] = [[(row[0], row[1 + i]) for row in rows] for i in range(3)]
    (running,) = db.execute("SELECT count(*) FROM leases WHERE tenant = ?", (tenant,)).fetchone()

    refused_by, retry_after_s = _refusal(charge, usages, running, now)
    if refused_by is None:
        db.execute("INSERT OR IGNORE INTO usage VALUES (?, ?, 0, 0, 0)", (tenant, second))
        _add(db, tenant, second, charge.amounts)
        expires = now + charge.lease_s
        db.execute(
            "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (tenant, charge.lease, expires)
        )
        running += 1
        usages = [
            [*usage, (second, amount)] for usage, amount in zip(usages, charge.amounts, strict=True)
        ]
    return Verdict(
        refused_by,
        retry_after_s,
        used=Amounts(*(sum(used for _, used in usage) for usage in usages)),
        reset_s=(reset_s(usages[0], now), reset_s(usages[1], now), reset_s(usages[2], now)),
        running=running,
        second=second,
    )


def _refusal(
    charge: Charge, usages: list[Usage], running: int, now: float
) -> tuple[Resource | Literal["concurrency"] | None, float]:
    """Find the limit that keeps the request out for longest."""
    refused_by: Resource | Literal["concurrency"] | None = None
    longest_s = 0.0
    for resource, usage, amount, limit in zip(
        Resource, usages, charge.amounts, charge.limits.per_minute, strict=True
    ):
        if limit is None or sum(used for _, used in usage) + amount <= limit:
            continue
        seconds = wait_s(usage, limit, amount, now)
        if refused_by is None or seconds > longest_s:
            refused_by, longest_s = resource, seconds
    most = charge.limits.concurrency
    if refused_by is None and most is not None and running >= most:
        return "concurrency", BUSY_RETRY_S
    return refused_by, longest_s


def settle(db: sqlite3.Connection, settlement: Settlement) -> None:
    """Correct what was counted, if it still counts, and free the place."""
    _add(db, settlement.tenant, settlement.second, settlement.correction)
    db.execute(
        "DELETE FROM leases WHERE tenant = ? AND lease = ?", (settlement.tenant, settlement.lease)
    )


def renew(db: sqlite3.Connection, renewal: Renewal, until: float) -> None:
    """Hold the place of a request, also if it was given away meanwhile."""
    if renewal.lease is not None:
        row = (renewal.tenant, renewal.lease, until)
        db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", row)


def adopt(db: sqlite3.Connection, tenant: str, second: int, used: Amounts, now: float) -> None:
    """Count at least what another store has counted up to a second, if it still counts."""
    if second < oldest_second(now):
        return
    counted = db.execute(
        "SELECT total(requests), total(visual), total(generated) FROM usage "
        "WHERE tenant = ? AND second >= ?",
        (tenant, oldest_second(now)),
    ).fetchone()
    missing = Amounts(*(max(0, int(a - b)) for a, b in zip(used, counted, strict=True)))
    db.execute("INSERT OR IGNORE INTO usage VALUES (?, ?, 0, 0, 0)", (tenant, second))
    _add(db, tenant, second, missing)


def _add(db: sqlite3.Connection, tenant: str, second: int, amounts: Amounts) -> None:
    db.execute(
        "UPDATE usage SET requests = requests + ?, visual = visual + ?, generated = generated + ? "
        "WHERE tenant = ? AND second = ?",
        (*amounts, tenant, second),
    )
