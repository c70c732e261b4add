"""Generations that refuse what events bring, though their engine is well: unwritable, red, gone, or without a model.

Only the live one may hold events. A write block that no run needs is lifted by whoever meets it. A draft that refuses
for too long is given up, and its run fails with that; a retired generation is fed no longer, and is stale from then on.
"""

import time
from contextlib import suppress

import structlog

from app import catalogues, generations, progress
from app.claims import Claim
from app.connections import Connections
from app.db import Database
from app.errors import Blocked, EmbedderError, Problem
from app.models import Generation
from app.sync.apply import Fed

PATIENCE, MODEL_PATIENCE = 30.0, 600.0
"""Seconds for which a generation that readers do not have may refuse events, or lack its model; then it is fed no
longer. A model comes back more often than an index does, and what it holds up is little."""

GAP = 120.0
"""Seconds without a refusal after which it counts as over: it may be another one that hears of them meanwhile."""

log = structlog.get_logger("reshelve.refusing")


class Refusals:
    """What one applier knows of generations that refuse."""

    def __init__(self, db: Database, connections: Connections) -> None:
        self._db, self._connections = db, connections
        self._heard: dict[str, tuple[float, float]] = {}

    async def met(self, claim: Claim, fed: Fed, problem: Problem) -> float:
        """A generation of a claim refused; how many seconds it has done so."""
        if isinstance(problem, Blocked) and fed.state in ("live", "retired"):
            await self._lift(claim, fed)
        seconds = self._since(fed)
        patience = MODEL_PATIENCE if isinstance(problem, EmbedderError) else PATIENCE
        if fed.state != "live" and seconds >= patience:
            await self._starve(claim, fed, problem)
        return seconds

    def over(self, claim: Claim) -> None:
        """All that a claim feeds took what it was sent."""
        for one in claim.fed:
            self._heard.pop(one.id, None)

    def _since(self, fed: Fed) -> float:
        now = time.monotonic()
        first, last = self._heard.get(fed.generation, (now, now))
        first = now if now - last > GAP else first
        self._heard = {key: heard for key, heard in self._heard.items() if now - heard[1] <= GAP}
        self._heard[fed.generation] = (first, now)
        return now - first

    async def _lift(self, claim: Claim, fed: Fed) -> None:
        async with self._db.reading() as session:
            if await generations.is_cloning(session, claim.catalogue.name):
                return
        with suppress(Problem):
            await (await self._connections.engine(claim.catalogue.engine)).unblock(fed.index)
            log.warning("block_lifted", catalogue=claim.catalogue.name, index=fed.index)

    async def _starve(self, claim: Claim, fed: Fed, problem: Problem) -> None:
        name = claim.catalogue.name
        async with self._db.writing() as session:
            left = await generations.starve(session, await catalogues.locked(session, name), fed.generation)
            if left is None:
                return
            told = {"starved": left.index, "code": problem.code, "why": problem.detail}
            await progress.say(session, name, "note", told, _builder(left))
        log.error("generation_starved", catalogue=name, index=left.index, code=problem.code, detail=problem.detail)


def _builder(left: Generation) -> str | None:
    """The run that fails with it, None where it was whole once."""
    return left.created_by if left.state == "dropped" else None
