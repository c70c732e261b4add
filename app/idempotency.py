"""The same key and the same order become the same run, for 24 hours, however many ask at once.

The key's row is written first, in the transaction that makes the run. Its primary key decides between two that come
at the same time: the loser waits for the winner's commit (or takes over when the winner rolled back) and reads which
run it became. An order that is refused leaves no key, so it may be sent again with the same one.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from app.columns import utc_now
from app.db import ReadSession, WriteSession
from app.errors import Invalid
from app.models import IdempotencyKey

KEPT = timedelta(hours=24)
"""How long a key stands for its run."""

LONGEST = 255
"""Characters of a key."""


def body_hash(body: Any) -> str:
    """The same for equal JSON, whatever the order of its keys."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def find(session: ReadSession, scope: str, key: str, body: str, now: datetime | None = None) -> str | None:
    """The run that *key* stands for, None for a new key. Raises `Invalid` when it came with another body."""
    if not 0 < len(key) <= LONGEST:
        raise Invalid(f"An Idempotency-Key has 1 to {LONGEST} characters.", code="idempotency_key")
    row = await session.get(IdempotencyKey, (scope, key), populate_existing=True)
    if row is None or row.created_at <= (now or utc_now()) - KEPT:
        return None
    if row.body_hash != body:
        raise Invalid("This Idempotency-Key came with another body: send a new key.", code="idempotency_key_reused")
    return row.run


async def claim(
    session: WriteSession, scope: str, key: str, body: str, run: str, *, now: datetime | None = None
) -> str:
    """Let *key* stand for *run*, unless it stands for one already: the run it stands for now. Raises as `find`."""
    moment = now or utc_now()
    if known := await find(session, scope, key, body, moment):
        return known
    await forget(session, moment, scope=scope, key=key)
    try:
        async with session.begin_nested():
            session.add(IdempotencyKey(scope=scope, key=key, body_hash=body, run=run, created_at=moment))
    except IntegrityError:
        return await find(session, scope, key, body, moment) or run
    return run


async def forget(session: WriteSession, now: datetime, *, scope: str | None = None, key: str | None = None) -> int:
    """Remove keys that are older than `KEPT`: all of them, or one; how many."""
    old = delete(IdempotencyKey).where(col(IdempotencyKey.created_at) <= now - KEPT)
    if scope is not None:
        old = old.where(col(IdempotencyKey.scope) == scope, col(IdempotencyKey.key) == key)
    return (await session.exec(old, execution_options={"synchronize_session": False})).rowcount
