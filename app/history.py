"""What earlier runs of a catalogue tell about the next one: how fast they went, and what a dry run foresaw."""

from collections.abc import Mapping
from datetime import timedelta
from statistics import median
from typing import Any

from sqlalchemy import exists
from sqlmodel import col, select

from app.columns import utc_now
from app.db import ReadSession
from app.models import Run, Switch

LAST = 5
"""Runs that are looked at: enough that one slow one does not matter, few enough that they are of today's size."""

FORESEEN = timedelta(hours=1)
"""How long a dry run's figures are worth comparing with."""


async def pace(session: ReadSession, catalogue: str, strategy: str) -> float | None:
    """Products a second, from start to end, of the last runs of *strategy* that promoted something; None without."""
    moved = exists().where(
        col(Switch.catalogue) == catalogue, col(Switch.run) == col(Run.id), col(Switch.state) == "moved"
    )
    query = select(Run).where(
        col(Run.catalogue) == catalogue,
        col(Run.strategy) == strategy,
        col(Run.state) == "ready",
        col(Run.dry_run).is_(False),
        moved,
    )
    last = await session.exec(query.order_by(col(Run.requested_at).desc(), col(Run.id).desc()).limit(LAST))
    paces = [found for run in last.all() if (found := _pace(run))]
    return median(paces) if paces else None


def _pace(run: Run) -> float | None:
    """Of one run; None where it read nothing or nobody knows how long it took."""
    read = run.counts.get("read")
    if not read or run.started_at is None or run.finished_at is None:
        return None
    seconds = (run.finished_at - run.started_at).total_seconds()
    return float(read / seconds) if seconds > 0 else None


async def foreseen(session: ReadSession, catalogue: str, recipe_hash: str) -> Mapping[str, Any] | None:
    """The plan of the last dry run, if it is of this recipe, of the last hour, and no run has carried it out since."""
    query = select(Run).where(
        col(Run.catalogue) == catalogue,
        col(Run.dry_run),
        col(Run.state) == "ready",
        col(Run.finished_at) > utc_now() - FORESEEN,
    )
    run = (await session.exec(query.order_by(col(Run.finished_at).desc()).limit(1))).first()
    if run is None or (run.plan or {}).get("recipe") != recipe_hash:
        return None
    carried = select(Run.id).where(
        col(Run.catalogue) == catalogue,
        col(Run.dry_run).is_(False),
        col(Run.state) == "ready",
        col(Run.finished_at) > run.finished_at,
    )
    return None if (await session.exec(carried)).first() else run.plan
