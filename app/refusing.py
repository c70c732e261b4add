"""Generations that refuse what events bring, though their engine is well: unwritable, red, gone, or without a model.

Only the live one may hold events. A write block that no run needs is lifted by whoever meets it. A draft that refuses
for too long is given up, and its run fails with that; a retired generation is fed no longer, and is stale from then on.
"""

import time
from collections.abc import Collection
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
"""Seconds without a refusal after which it counts as over, at least: another one may hear of them meanwhile."""

log = structlog.get_logger("reshelve.refusing")


class Refusals:
    """What one applier knows of generations that refuse."""

    def __init__(self, db: Database, connections: Connections) -> None:
        self._db, self._connections = db, connections
        self._heard: dict[tuple[str, float], tuple[float, float]] = {}

    async def met(self, claim: Claim, fed: Fed, problem: Problem) -> float:
        """A generation of a claim refused; how many seconds it has done so."""
        if isinstance(problem, Blocked) and fed.state in ("live", "retired"):
            await self._lift(claim, fed)
        patience = MODEL_PATIENCE if isinstance(problem, EmbedderError) else PATIENCE
        seconds = self._since(fed, patience)
        if fed.state != "live" and seconds >= patience:
            await self._starve(claim, fed, problem)
        return seconds

    def over(self, fed: Collection[str], patience: float) -> None:
        """These took what they were sent (`PATIENCE`), or their model gave vectors (`MODEL_PATIENCE`): neither tells of
        the other."""
        for one in fed:
            self._heard.pop((one, patience), None)

    def _since(self, fed: Fed, patience: float) -> float:
        now = time.monotonic()
        gone = [key for key, (_, last) in self._heard.items() if now - last > max(GAP, key[1])]
        for key in gone:
            del self._heard[key]
        first, _ = self._heard.get((fed.generation, patience), (now, now))
        self._heard[fed.generation, patience] = (first, now)
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
