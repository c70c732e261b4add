"""How far events are behind: what waits, since when, what is stuck or failed; and what runs must know of them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from sqlalchemy import case, exists, func, literal
from sqlalchemy import select as select_columns
from sqlmodel import col, select

from app.db import ReadSession, WriteSession, clock_ms
from app.dialects import now_ms, upsert
from app.events import BLANK, DELETED, TABLE, WAITING
from app.models import Catalogue, Event, Installation
from app.notices import ARRIVED
from app.sync.apply import UNCHANGED, WITHHELD

PAGE = 10_000
"""Products of one answer to a run."""

SOON = 30_000
"""What is due later than in so many ms is not waited for."""

OPEN = ("pending", "processing", "failed")
"""Statuses of entries that are counted: a catalogue's are found by an index, however many are done."""

FIGURES = ("pending", "due", "processing", "stuck", "failed", "withheld", "oldest_seconds")


async def of(session: ReadSession, name: str) -> Mapping[str, Any]:
    """The figures of one catalogue: counts, and `oldest_seconds` since the oldest due event could first be applied
    (None: none): when it was received, or later where its sender wanted that.

    `pending` holds what is due and what waits for its time; `stuck` is in the hands of an applier beyond its lease.
    What a guard withholds waits for a person, and makes nothing late: it is not the oldest.
    """
    return (await of_all(session, name)).get(name) or dict.fromkeys(FIGURES[:-1], 0) | {"oldest_seconds": None}


def _first_due() -> Any:
    """When an entry could first be applied."""
    received, wanted = col(Event.received_at), col(Event.not_before)
    return case((wanted > received, wanted), else_=received)


async def of_all(session: ReadSession, name: str | None = None, limit: int = 500) -> Mapping[str, Mapping[str, Any]]:
    """The same of every catalogue that has any."""
    now = await clock_ms(session)
    pending, processing = _is("pending"), _is("processing")
    due = pending & (col(Event.due_at) <= now)
    is_withheld = func.coalesce(col(Event.reason_code), "") == WITHHELD
    query = select_columns(
        col(Event.catalogue),
        _count(pending),
        _count(due),
        _count(processing),
        _count(processing & (col(Event.lease_until) <= now)),
        _count(_is("failed")),
        _count(pending & is_withheld),
        func.min(case(((due | processing) & ~is_withheld, _first_due()))),
    )
    names = select(Catalogue.name) if name is None else [name]
    query = query.where(_is(*OPEN), col(Event.catalogue).in_(names))
    rows = (await (await session.connection()).execute(query.group_by(col(Event.catalogue)).limit(limit))).all()
    return {
        row[0]: dict(zip(FIGURES, (*row[1:-1], None if row[-1] is None else max(now - row[-1], 0) / 1000), strict=True))
        for row in rows
    }


def _is(*statuses: str) -> Any:
    return col(Event.status).in_(statuses)


def _count(condition: Any) -> Any:
    return func.count(case((condition, 1)))


# --- what a run asks -------------------------------------------------------------------------------------------------


async def touched(session: ReadSession, name: str, since: int) -> AsyncIterator[Sequence[str]]:
    """Products of which events told, claimed beyond number *since* or not yet, some at a time, some of them twice.

    Also those that are being applied: what an applier has written is settled a moment later.
    """
    told = [col(Event.number) > since, (col(Event.status) == "pending") & col(Event.number).is_(None)]
    for which in told:
        query = select(Event.product_id).where(col(Event.catalogue) == name, which)
        rows = await session.stream_scalars(query, execution_options={"yield_per": PAGE})
        async for ids in rows.partitions():
            yield ids


async def told_of(session: ReadSession, name: str, since: int, ids: Sequence[str]) -> set[str]:
    """Those of *ids* of which events told, claimed beyond number *since* or not yet."""
    query = select(Event.product_id).where(
        col(Event.catalogue) == name,
        col(Event.product_id).in_(ids),
        (col(Event.number) > since) | col(Event.number).is_(None),
    )
    return set((await session.exec(query)).all())


async def waiting(session: ReadSession, name: str, mark: int) -> tuple[int, str]:
    """How many entries of what was received up to *mark* (ms of the database's clock) are due or being applied, and the
    code that most of them carry, or why nobody applies them. An entry that newer notices were merged into is as old as
    its first.

    What a guard withholds waits for a person, what is due much later for its time, and what is looked at once more is
    applied already: nobody waits for those.
    """
    soon = now_ms() + SOON
    query = select(func.coalesce(col(Event.reason_code), ""), func.count()).where(
        col(Event.catalogue) == name,
        col(Event.received_at) <= mark,
        _is("processing") | (_is("pending") & (col(Event.due_at) <= soon)),
        func.coalesce(col(Event.reason_code), "").not_in((WITHHELD, UNCHANGED)),
    )
    rows = (await session.exec(query.group_by(col(Event.reason_code)).order_by(func.count().desc()))).all()
    return sum(count for _, count in rows), (await _switched_off(session, name) or rows[0][0]) if rows else ""


async def _switched_off(session: ReadSession, name: str) -> str:
    """Why nobody applies anything, where that was switched off."""
    if (await session.exec(select(Installation.read_only))).one():
        return "read_only"
    return "paused" if (await session.exec(select(Catalogue.paused).where(col(Catalogue.name) == name))).one() else ""


async def replay_deletions(session: WriteSession, name: str, since: int) -> None:
    """What events deleted since a draft was registered is looked at again: engines forget deletes (`app.ledger`).

    That it was missing for long enough is known, so nobody waits for it again; not what was there again since: it is
    safe from the run's older documents, and may be missing for a moment just now. In the order of `events.put`.
    """
    now, bytewise = await clock_ms(session), "BINARY" if session.get_bind().dialect.name == "sqlite" else "C"
    blank = {column: value for column, value in BLANK.items() if column != "missing_since"}
    later = TABLE.alias("later")
    is_back = exists().where(
        later.c.catalogue == name, later.c.product_id == TABLE.c.product_id, later.c.number > TABLE.c.number,
        later.c.status == "done", ~later.c.deleted,
    )  # fmt: skip
    gone = (
        select_columns(
            TABLE.c.catalogue, TABLE.c.product_id, func.min(TABLE.c.missing_since), *map(literal, blank.values()),
            literal("delete"), literal("priority"), literal(now), literal(now),
        )
        .where(TABLE.c.catalogue == name, DELETED, TABLE.c.number > since, TABLE.c.status == "done")
        .where(~is_back)
        .group_by(TABLE.c.catalogue, TABLE.c.product_id)
        .order_by(TABLE.c.product_id.collate(bytewise))
    )  # fmt: skip
    columns = ["catalogue", "product_id", "missing_since", *blank, "action", "lane", "received_at", "due_at"]
    again = upsert(session, TABLE).from_select(columns, gone).on_conflict_do_nothing(**WAITING)
    await (await session.connection()).execute(again)
    session.ring(ARRIVED)
