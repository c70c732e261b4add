"""Which generations are kept: what nothing here names is dropped.

Besides the live one: the `keep` most recently retired; the last one retired on each of the last `keep_daily` days, as
with a run every few minutes the most recent ones are minutes old; all that are fed; what an open switch names, an
unfinished run began from, or a draft is a clone of; and any that is newer than the live one (a rollback went past it).
A foreign index is never ours to drop.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from sqlmodel import col, select

from app import generations
from app.columns import utc_now
from app.db import ReadSession, WriteSession
from app.models import ACTIVE, Catalogue, Generation, Run, Switch
from app.spec import CatalogueSpec


async def overdue(session: WriteSession, catalogue: Catalogue, now: datetime | None = None) -> Sequence[Generation]:
    """Retired generations that nothing keeps, now `dropped`; their indices are the caller's to drop.

    The catalogue's row is locked.
    """
    here = await generations.live(session, catalogue.name)
    if here is None:
        return ()
    ours = [one for one in await generations.retired(session, catalogue.name) if one.origin == "own"]
    older = generations.newest_retired([one for one in ours if one.created_at <= here.created_at])
    policy, needed = CatalogueSpec.model_validate(catalogue.spec).policy, await _needed(session, catalogue.name)
    kept = {one.id for one in (*older[: policy.keep], *daily(older, policy.keep_daily, now or utc_now()))} | needed
    gone = [one for one in older if one.id not in kept and not one.fed]
    for generation in gone:
        generation.state = "dropped"
    return gone


def daily(newest_first: Sequence[Generation], days: int, now: datetime) -> list[Generation]:
    """The last one retired on each of the last *days* days (UTC), the day of *now* being the first."""
    last: dict[date, Generation] = {}
    for generation in newest_first:
        if generation.retired_at is not None:
            last.setdefault(generation.retired_at.astimezone(UTC).date(), generation)
    first = now.astimezone(UTC).date() - timedelta(days=days)
    return [generation for day, generation in last.items() if day > first]


async def _needed(session: ReadSession, catalogue: str) -> set[str]:
    """What an open switch names, an unfinished run began from, or a draft is a clone of."""
    switches = select(Switch.from_generation, Switch.to_generation).where(
        col(Switch.catalogue) == catalogue, col(Switch.state) == "open"
    )
    begun = select(Run.from_generation).where(col(Run.catalogue) == catalogue, ACTIVE)
    clones = select(Generation.cloned_from).where(
        col(Generation.catalogue) == catalogue, col(Generation.state).in_(generations.BUILDING)
    )
    named = {one for pair in await session.exec(switches) for one in pair}
    return {one for one in (*named, *await session.exec(begun), *await session.exec(clones)) if one}
