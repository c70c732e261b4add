"""What a service does on its own, slowly: forget vectors that nobody needs, and repair what nobody else looks at.

Each act is safe to do twice and in several processes: forgetting is of what is not needed, and one run of a catalogue
is active at a time. A catalogue in trouble is logged and passed over.
"""

from collections.abc import Sequence
from datetime import timedelta

import structlog
from sqlmodel import col, or_, select

from app import generations, runs
from app.catalogues import spec_of
from app.columns import utc_now
from app.config import Settings
from app.connections import Connections
from app.db import Database, ReadSession
from app.errors import Conflict, Problem, Unavailable
from app.models import ACTIVE, Catalogue, Generation, Run
from app.sync import evicting
from app.sync.words import ModelStamp

BACKGROUND = "reshelve"
"""Who orders what nobody ordered."""

log = structlog.get_logger("reshelve.upkeep")


# --- vectors ---------------------------------------------------------------------------------------------------------


async def evict(db: Database, connections: Connections, settings: Settings) -> int:
    """Forget kept vectors on every engine that has generations of ours; how many."""
    async with db.reading() as session:
        engines = (await session.exec(select(Catalogue.engine).distinct())).all()
    return sum([await _evict_on(db, connections, settings, engine) for engine in engines])


async def _evict_on(db: Database, connections: Connections, settings: Settings, engine: str) -> int:
    try:
        target = await connections.engine(engine)
        async with db.reading() as session:
            kept = await _kept(session, engine)
        before = utc_now() - timedelta(days=settings.vectors_days)
        gone = await evicting.evict(target, await target.store(), kept, before.timestamp(), settings.vectors_most)
    except Problem as problem:
        log.warning("not_evicted", engine=engine, code=problem.code, detail=problem.detail)
        return 0
    if gone:
        log.info("vectors_evicted", engine=engine, vectors=gone)
    return gone


async def _kept(session: ReadSession, engine: str) -> Sequence[evicting.Kept]:
    query = select(Generation).where(
        col(Generation.engine) == engine,
        col(Generation.origin) == "own",
        col(Generation.state).in_(("draft", "sealed", "live", "retired")),
    )
    rows = [(row.index, row.embedder) for row in (await session.exec(query)).all() if row.embedder]
    return [evicting.Kept(index, ModelStamp(one["model"], one["version"], one["dims"])) for index, one in rows]


# --- repair ----------------------------------------------------------------------------------------------------------


async def repair(db: Database) -> int:
    """Order a repair of each catalogue that no run has looked at for `policy.repair_hours`; how many."""
    async with db.reading() as session:
        everything = (await session.exec(select(Catalogue).order_by(col(Catalogue.name)))).all()
        due = [one.name for one in everything if await _is_due(session, one)]
    return sum([await _order(db, name) for name in due])


async def _is_due(session: ReadSession, catalogue: Catalogue) -> bool:
    hours = spec_of(catalogue).policy.repair_hours
    live = await generations.live(session, catalogue.name)
    if not hours or catalogue.held or live is None or live.origin != "own":
        return False
    recent = select(Run.id).where(
        col(Run.catalogue) == catalogue.name,
        col(Run.dry_run).is_(False),
        or_(col(Run.state) == "ready", col(Run.strategy) == "repair", ACTIVE),
        col(Run.requested_at) > utc_now() - timedelta(hours=hours),
    )
    return (await session.exec(recent)).first() is None


async def _order(db: Database, name: str) -> int:
    order = runs.Order(catalogue=name, strategy="repair", reason="Nobody has looked at it for policy.repair_hours.")
    try:
        async with db.writing() as session:
            await runs.request(session, order, BACKGROUND, trigger="background")
    except (Conflict, Unavailable) as problem:
        log.debug("not_repaired", catalogue=name, code=problem.code)
        return 0
    return 1
