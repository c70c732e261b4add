"""The outbox: somebody told us that a product changed. A notice that was answered 202 is a committed row, never lost.

    accept ──▶ pending ──claim──▶ processing ──┬──▶ done
                 ▲  └ due later                ├──▶ failed ──replay──▶ pending
                 └───────────── goes back ─────┘       └───drop─────▶ gone, audited

- A notice says only that something changed: what is true is read from the source when the entry is applied. So at most
  one entry waits for a product, whatever the notices say; the last one wins. A partial unique index holds that, and
  `ON CONFLICT` merges. An entry that is being applied is never merged into: what changed since has an entry of its own.
- Deletions, and what the sender marks, go in the priority lane; the other lane has a guaranteed share (`app.claims`).
- An `id` makes a repeat harmless for `KEYS_KEPT`. Senders must not use one again.
- The outbox is bounded: what does not fit is refused with `Retry-After` before anything is written.
- An entry goes back to `pending` by being deleted and accepted anew under its `seq`: it merges like any other.
- Merging does not depend on the order: the earliest due moment counts, and the latest `not_before` is kept, for which
  a second look is entered when the entry ends earlier (`app.claims`). So no notice is applied too late or too early.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Table, case, delete, literal_column, or_, text, tuple_
from sqlmodel import SQLModel, col, select

from app import audit, catalogues
from app.columns import from_ms
from app.db import Database, ReadSession, WriteSession, clock_ms
from app.dialects import upsert
from app.models import Event, EventKey
from app.notices import ARRIVED, MOST
from app.paging import Page, page

KEYS_KEPT = 48 * 3600 * 1000
"""How long the `id` of an event is remembered, in ms."""

DONE_KEPT = 48 * 3600 * 1000
"""How long an entry that was applied can be looked at, in ms; failed ones stay until they are replayed or dropped."""

TABLE: Table = SQLModel.metadata.tables["event"]

DELETED = text("event.deleted")
"""Word for word as its index has it: SQLite would not use that for `deleted = 1`."""


# --- wait ------------------------------------------------------------------------------------------------------------

BLANK: Mapping[str, Any] = {
    "status": "pending", "attempts": 0, "lives": 0, "merged": 0, "looks": 0, "replay_count": 0, "reason_code": None,
    "detail": None, "missing_since": None, "not_before": 0, "deleted": False,
}  # fmt: skip
"""What an entry is when nobody has looked at it yet."""

WAITING = {"index_elements": ["catalogue", "product_id"], "index_where": text("status = 'pending'")}
"""The index by which one entry waits for a product."""


async def put(session: WriteSession, entries: Sequence[Mapping[str, Any]]) -> set[str]:
    """Let *entries*, one a product, wait; the products of those that were not merged into one that waited already.

    In the order of the products, so that two who put the same ones never wait for each other crosswise.
    """
    if not entries:
        return set()
    ordered = sorted(entries, key=lambda entry: str(entry["product_id"]))
    rows = await (await session.connection()).execute(_merge(session), ordered)
    return {product_id for product_id, merged in rows if not merged}


_MERGES: dict[str, Any] = {}
"""The statement, by dialect: making it takes longer than a database takes to do it."""


def _merge(session: WriteSession) -> Any:
    dialect = session.get_bind().dialect.name
    if dialect not in _MERGES:
        insert = upsert(session, TABLE)
        merge = insert.on_conflict_do_update(**WAITING, set_=_merged(insert.excluded, TABLE.c))
        _MERGES[dialect] = merge.returning(TABLE.c.product_id, TABLE.c.merged)
    return _MERGES[dialect]


def _merged(new: Any, old: Any) -> dict[str, Any]:
    """What becomes of two entries for one product. What it was given back for counts only where both were; and with a
    new notice it is missing anew, as a shop may be deleting and indexing it once more.
    """
    newer, both = new.received_at >= old.received_at, old.reason_code.is_not(None) & new.reason_code.is_not(None)

    def most(column: str) -> Any:
        return case((or_(old[column].is_(None), new[column] > old[column]), new[column]), else_=old[column])

    def least(column: str) -> Any:
        return case((new[column] < old[column], new[column]), else_=old[column])

    return {
        "action": case((newer, new.action), else_=old.action),
        "lane": case((new.lane == literal_column("'priority'"), new.lane), else_=old.lane),
        "reason_code": case((both, new.reason_code)),
        "detail": case((both, new.detail)),
        "missing_since": case((old.missing_since.is_not(None), new.missing_since)),
        "deleted": or_(old.deleted, new.deleted),
        "merged": old.merged + literal_column("1"),
        **{column: most(column) for column in ("attempts", "lives", "not_before", "number")},
        **{column: least(column) for column in ("due_at", "received_at", "looks")},
    }


# --- look ------------------------------------------------------------------------------------------------------------


async def listed(
    session: ReadSession, name: str, limit: int, cursor: str | None, *, status: str | None, product_id: str | None
) -> Page[Event]:
    """Entries of a catalogue, newest first. Raises `NotFound`."""
    await catalogues.get(session, name)
    query = select(Event).where(col(Event.catalogue) == name)
    if status is not None:
        query = query.where(col(Event.status) == status)
    if product_id is not None:
        query = query.where(col(Event.product_id) == product_id)
    return await page(session, query, [col(Event.seq)], limit, cursor)


async def last(session: ReadSession, name: str, product_id: str) -> Event | None:
    """The newest entry of a product."""
    query = select(Event).where(col(Event.catalogue) == name, col(Event.product_id) == product_id)
    return (await session.exec(query.order_by(col(Event.seq).desc()).limit(1))).first()


SHOWN = (
    *("seq", "product_id", "action", "lane", "status", "attempts", "lives", "merged", "replay_count"),
    *("reason_code", "detail", "number", "deleted"),
)


def view(event: Event) -> dict[str, Any]:
    """An entry as clients see it."""
    shown = {name: getattr(event, name) for name in SHOWN}
    shown |= {"received_at": from_ms(event.received_at), "done_at": from_ms(event.done_at)}
    return shown | {"next_retry_at": from_ms(event.due_at) if event.status == "pending" else None}


# --- replay, drop ----------------------------------------------------------------------------------------------------


class Wanted(BaseModel):
    """Which failed entries an operator means, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field(min_length=1, max_length=1000)
    limit: int = Field(1000, ge=1, le=10_000)
    reason_code: str | None = Field(None, max_length=100)
    dry_run: bool = False


async def replay(session: WriteSession, name: str, wanted: Wanted, who: str) -> int:
    """Let failed entries wait again, oldest first; how many. Audited, unless it is a dry run."""
    rows = await _failed(session, name, wanted)
    if wanted.dry_run or not rows:
        return len(rows)
    now = await clock_ms(session)
    fresh = {**BLANK, "due_at": now, "done_at": None, "lease_until": None, "worker": None}
    entries = [{**row.model_dump(), **fresh, "replay_count": row.replay_count + 1} for row in rows]
    await _remove(session, rows)
    await put(session, _one_a_product(entries))
    await audit.record(session, who, "replay", name, reason=wanted.reason, count=len(rows), code=wanted.reason_code)
    session.ring(ARRIVED)
    return len(rows)


def _one_a_product(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest of each product, waiting since the oldest; *entries* come in the order in which they failed."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        older = found.get(entry["product_id"], entry)
        found[entry["product_id"]] = {
            **entry,
            "lane": older["lane"] if older["lane"] == "priority" else entry["lane"],
            "received_at": min(older["received_at"], entry["received_at"]),
            "replay_count": max(older["replay_count"], entry["replay_count"]),
            "deleted": older["deleted"] or entry["deleted"],
        }
    return list(found.values())


async def drop(session: WriteSession, name: str, wanted: Wanted, who: str) -> int:
    """Remove failed entries for good, oldest first; how many. Audited, unless it is a dry run."""
    rows = await _failed(session, name, wanted)
    if not wanted.dry_run and rows:
        await _remove(session, rows)
        ids, count = [row.product_id for row in rows[:100]], len(rows)
        await audit.record(
            session, who, "drop_events", name, reason=wanted.reason, count=count, code=wanted.reason_code, products=ids
        )
    return len(rows)


async def _failed(session: WriteSession, name: str, wanted: Wanted) -> Sequence[Event]:
    await catalogues.get(session, name)
    query = select(Event).where(col(Event.catalogue) == name, col(Event.status) == "failed")
    if wanted.reason_code is not None:
        query = query.where(col(Event.reason_code) == wanted.reason_code)
    query = query.order_by(col(Event.seq)).limit(wanted.limit).with_for_update()
    return (await session.exec(query)).all()


async def _remove(session: WriteSession, rows: Sequence[Event]) -> None:
    for start in range(0, len(rows), MOST):
        some = [row.seq for row in rows[start : start + MOST]]
        await session.exec(delete(Event).where(col(Event.seq).in_(some)), execution_options=_QUIET)
    session.expunge_all()


# --- forget ----------------------------------------------------------------------------------------------------------


async def forget_old(db: Database, portion: int = 10_000) -> int:
    """Remove entries that were applied and keys that were sent too long ago, some at a time; how many of both."""
    total = 0
    while True:
        async with db.writing() as session:
            gone = await _forget_some(session, portion)
        if not gone:
            return total
        total += gone


async def _forget_some(session: WriteSession, portion: int) -> int:
    """Entries are looked at from the first one on, so that what is too young ends the search."""
    now, key = await clock_ms(session), (col(EventKey.catalogue), col(EventKey.id))
    first = select(col(Event.seq), col(Event.done_at)).where(col(Event.status) == "done").order_by(col(Event.seq))
    done = first.limit(portion).subquery()
    old = select(done.c.seq).where(done.c.done_at < now - DONE_KEPT)
    sent = select(*key).where(col(EventKey.at) < now - KEYS_KEPT)
    entries = delete(Event).where(col(Event.seq).in_(old))
    keys = delete(EventKey).where(tuple_(*key).in_(sent.limit(portion)))
    gone = [await session.exec(statement, execution_options=_QUIET) for statement in (entries, keys)]
    return sum(int(one.rowcount) for one in gone)


_QUIET = {"synchronize_session": False}
