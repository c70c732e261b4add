"""The outbox in a test's hands: tell, claim, settle, let time pass; and what stands in it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from app import claims, intake
from app.claims import Claim
from app.db import Database
from app.intake import Room
from app.models import Catalogue, Event, EventKey
from app.notices import Notice
from app.sync.apply import Done, Outcome
from tests.contract.world import World, world_on

AMPLE = 1_000_000
MOMENTS = ("received_at", "due_at", "not_before", "missing_since", "done_at", "lease_until")


@dataclass
class Outbox:
    world: World
    room: Room

    @property
    def db(self) -> Database:
        return self.world.db

    @property
    def name(self) -> str:
        return self.world.name

    # --- senders ---

    async def tell(self, *ids: str, **how: Any) -> dict[str, int]:
        """A notice of each of these products."""
        return await self.accept(*[Notice(product_id=one, **how) for one in ids])

    async def accept(self, *notices: Notice) -> dict[str, int]:
        return await intake.take(self.db, self.name, notices, self.room)

    # --- appliers ---

    async def claim(self, most: int = claims.AT_ONCE, seconds: float = 60) -> Claim | None:
        async with self.db.writing() as session:
            return await claims.claim(session, self.name, "w1", seconds, most)

    async def claimed(self, *ids: str, **how: Any) -> Claim:
        """A claim of exactly these products."""
        claim = await self.claim(**how)
        assert claim is not None
        assert sorted(one.product_id for one in claim.entries) == sorted(ids)
        return claim

    async def due(self) -> Sequence[str]:
        async with self.db.reading() as session:
            return await claims.due(session)

    async def settle(self, claim: Claim, *outcome: Outcome, highest: int = 0, **outcomes: Outcome) -> Claim | None:
        """Settle with the same *outcome* for all, or with `outcomes` by product."""
        every = dict.fromkeys([one.product_id for one in claim.entries], outcome[0] if outcome else Done())
        async with self.db.writing() as session:
            return await claims.settle(session, claim, {**every, **outcomes}, highest)

    async def ended(self, *ids: str, outcome: Outcome | None = None) -> Claim:
        """These products told of, claimed and settled."""
        await self.tell(*ids)
        claim = await self.claimed(*ids)
        assert await self.settle(claim, outcome or Done()) is None
        return claim

    async def permit(self, claim: Claim, *ids: str, most: int) -> set[str]:
        async with self.db.writing() as session:
            return await claims.permit(session, claim, ids, most)

    # --- time and the world ---

    async def elapse(self, seconds: float) -> None:
        """Everything lies so much further back."""
        shift = int(seconds * 1000)
        async with self.db.writing() as session:
            await session.exec(update(Event).values({name: getattr(Event, name) - shift for name in MOMENTS}))
            await session.exec(update(EventKey).values(at=col(EventKey.at) - shift))

    async def come_due(self) -> None:
        """What waits for its time has waited long enough."""
        async with self.db.writing() as session:
            await session.exec(
                update(Event).where(col(Event.status) == "pending").values(due_at=col(Event.received_at))
            )

    async def lapse(self) -> None:
        """Every lease has run out."""
        async with self.db.writing() as session:
            await session.exec(update(Event).where(col(Event.status) == "processing").values(lease_until=1))

    async def set(self, **values: Any) -> None:
        """Something of the catalogue is otherwise, as whoever changed it committed it."""
        async with self.db.writing() as session:
            await session.exec(update(Catalogue).where(col(Catalogue.name) == self.name).values(**values))

    async def catalogue(self) -> Catalogue:
        async with self.db.reading() as session:
            return (await session.exec(select(Catalogue).where(col(Catalogue.name) == self.name))).one()

    async def rows(self, *ids: str) -> Sequence[Event]:
        """The entries (of these products), oldest first."""
        query = select(Event).order_by(col(Event.seq))
        async with self.db.reading() as session:
            return (await session.exec(query.where(col(Event.product_id).in_(ids)) if ids else query)).all()

    async def row(self, product_id: str) -> Event:
        """The only entry of a product."""
        (row,) = await self.rows(product_id)
        return row

    async def statuses(self) -> dict[str, list[str]]:
        """The statuses of each product's entries, oldest first."""
        found: dict[str, list[str]] = {}
        for row in await self.rows():
            found.setdefault(row.product_id, []).append(row.status)
        return found


@asynccontextmanager
async def outbox_on(url: str, most: int = AMPLE) -> AsyncIterator[Outbox]:
    async with world_on(url) as world:
        yield Outbox(world, Room(most))


def ahead(seconds: float) -> datetime:
    """A moment so many seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)
