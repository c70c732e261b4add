"""Freshness as a number: how soon searches find what an event told of, measured by searching for it.

One product of a catalogue is followed at a time, so that measuring costs next to nothing.
"""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from app import telemetry
from app.claims import Claim
from app.connections import Connections
from app.errors import Problem
from app.models import Generation
from app.sync.apply import Applied, Done
from app.sync.engine_port import Engine

FOLLOWED, FOLLOW_SECONDS = 30.0, 0.1
"""How long a product is followed until a search finds it, and how often it is searched for."""

log = structlog.get_logger("reshelve.freshness")


class Freshness:
    """Follows products for one applier."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._followed: set[str] = set()

    def follow(self, group: TaskGroup, claim: Claim, ages: Mapping[str, float], applied: Applied) -> None:
        """Follow one of the products of a claim that was applied just now; *ages* are seconds since their events."""
        name = claim.catalogue.name
        live = next((one for one in claim.fed if one.state == "live"), None)
        done = [one for one, what in applied.outcomes.items() if isinstance(what, Done) and what.code is None]
        if live is None or not done or name in self._followed:
            return
        chosen = random.choice(done)  # noqa: S311 - a sample is no secret
        self._followed.add(name)
        since = time.monotonic() - ages[chosen]
        group.start_soon(self._see, Trail(name, live, chosen, applied.hashes.get(chosen), since))

    async def _see(self, trail: "Trail") -> None:
        try:
            if await trail.seen(await self._connections.engine(trail.live.engine)):
                telemetry.event_searchable(trail.catalogue, trail.kind, time.monotonic() - trail.since)
        except Problem as problem:
            log.debug("not_followed", catalogue=trail.catalogue, code=problem.code)
        except Exception:
            log.exception("following_broke", catalogue=trail.catalogue)  # a figure is lost, and nothing else
        finally:
            self._followed.discard(trail.catalogue)


@dataclass(frozen=True)
class Trail:
    """A product that was written or deleted for readers, followed until a search says so. *since* its event came, by
    the monotonic clock; *input_hash* None for one that is gone."""

    catalogue: str
    live: Generation
    product_id: str
    input_hash: str | None
    since: float

    @property
    def kind(self) -> str:
        """Deletions wait for the settle time first, so they are told apart."""
        return "write" if self.input_hash else "deletion"

    async def seen(self, target: Engine) -> bool:
        """Whether a search found it so within `FOLLOWED` seconds: it may change again before one did."""
        where: list[dict[str, Any]] = [{"term": {"source_id": self.product_id}}]
        where += [{"term": {"input_hash": self.input_hash}}] if self.input_hash else []
        deadline = time.monotonic() + FOLLOWED
        while time.monotonic() < deadline:
            if bool(await target.counted(self.live.index, where)) == bool(self.input_hash):
                return True
            await anyio.sleep(FOLLOW_SECONDS)
        return False
