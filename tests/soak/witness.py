"""Somebody who looks at the outbox all the time: what is done stays done, with the outcome it had."""

from collections.abc import Mapping
from typing import Any

import anyio
from sqlmodel import col, select

from app.db import Database, heard
from app.errors import Unavailable
from app.models import Event

Outcome = tuple[Any, ...]

LOOK_SECONDS = 0.5


def outcome(event: Event) -> Outcome:
    """What became of an entry, and under which number."""
    return (event.status, event.number, event.deleted, event.reason_code)


class Witness:
    """Remembers the first outcome of every entry that it saw done."""

    def __init__(self, db: Database, name: str) -> None:
        self._db, self._name = db, name
        self.seen: dict[int, Outcome] = {}

    async def run(self, over: anyio.Event) -> None:
        """Until it is over."""
        while not await heard(over, LOOK_SECONDS):
            try:
                await self.look()
            except Unavailable:  # the database is as busy as it may be
                continue

    async def look(self) -> None:
        """Once."""
        query = select(Event).where(col(Event.catalogue) == self._name, col(Event.status) == "done")
        async with self._db.reading() as session:
            for row in (await session.exec(query)).all():
                self.seen.setdefault(row.seq or 0, outcome(row))

    def differing(self, rows: Mapping[int, Event]) -> list[str]:
        """Entries that were done and are not what they were then."""
        found = []
        for seq, was in self.seen.items():
            now = outcome(rows[seq]) if seq in rows else ("gone",)
            found += [f"entry {seq} was {was} and is {now}"] if now != was else []
        return found
