"""What else goes on while the writer writes: runs of every kind, cancels, retries, rollbacks, other recipes, pauses,
workers that come and go. Driven by dice; all it does and what it was answered stands in the journal.

Refusals are part of it: a run may be active, the catalogue held, a switch under way. How runs ended is judged by the
checks.
"""

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio

from app import catalogues, runs
from app.errors import Problem
from app.models import Run
from app.worker import Worker
from tests.gates import QUICK
from tests.soak.journal import Journal
from tests.soak.writer import SETTLE
from tests.stack import Stack

POLICY = {"settle_seconds": SETTLE, "shrink": {"documents": 1_000_000}, "max_reject_percent": 100}
"""Deletions are not withheld: there is nobody who could approve."""

RECIPES: tuple[Mapping[str, Any], ...] = (
    QUICK,
    {**QUICK, "template": "{{ name }} in {{ categories }}"},
    {
        **QUICK,
        "template": "{{ sku }} {{ name }}",
        "exclude_when": {"status": [2], "visibility": [1, 2], "is_out_of_stock": [1]},
    },
)
"""The default, one with another text, one that leaves out what is out of stock."""

EVENTS = {
    "full": 3, "incremental": 8, "repair": 2, "canceled": 4, "rollback": 3, "rollback_meanwhile": 3, "pause": 2,
    "recipe": 1, "other_worker": 2,
}  # fmt: skip
"""What happens, and how often in comparison."""

OVER_SECONDS = 150.0
"""A run that takes longer than that is stuck."""


class Turmoil:
    """One catalogue that is given no rest. Without *workers* they belong to somebody else."""

    def __init__(self, here: Stack, journal: Journal, seed: int, workers: list[Worker] | None = None) -> None:
        self._here, self._journal, self._workers = here, journal, workers
        self._dice = random.Random(seed)
        self._window = 1 + seed % 2

    async def declare(self, recipe: int = 0) -> None:
        """The catalogue, with one of the recipes."""
        await self._here.declare(recipe=dict(RECIPES[recipe]), policy={**POLICY, "rollback_window": self._window})
        self._journal.say("declared", recipe=recipe)

    async def run(self, over: anyio.Event) -> None:
        """Until it is over; what is under way then is waited for, and the catalogue is released."""
        kinds = {kind: weight for kind, weight in EVENTS.items() if self._workers is not None or kind != "other_worker"}
        while not over.is_set():
            kind = self._dice.choices(list(kinds), list(kinds.values()))[0]
            await self._tried(kind, getattr(self, f"_{kind}"))
            await anyio.sleep(self._dice.uniform(0, 0.3))
        await self._tried("release", self._release)

    async def _tried(self, kind: str, act: Callable[[], Awaitable[Any]]) -> None:
        self._journal.say("begins", act=kind)
        try:
            answer = await act()
        except Problem as problem:
            self._journal.say("refused", act=kind, code=problem.code, detail=problem.detail)
            await self._release()
        else:
            self._journal.say("ends", act=kind, answer=answer)

    # --- runs ---

    async def _full(self) -> Any:
        return await self._ended(await self._ordered("full"))

    async def _incremental(self) -> Any:
        return await self._ended(await self._ordered("incremental"))

    async def _repair(self) -> Any:
        return await self._ended(await self._ordered("repair"))

    async def _canceled(self) -> Any:
        """One that is cancelled somewhere on its way, and perhaps ordered once more."""
        run = await self._ordered(self._dice.choice(("full", "incremental", "incremental")))
        await anyio.sleep(self._dice.uniform(0, 2))
        try:
            await self._here.cancel(run.id, "turmoil")
        finally:
            told = await self._ended(run)
        if self._dice.random() < 0.5:
            async with self._here.db.writing() as session:
                again = await runs.retry(session, run.id, "turmoil")
            told = [told, await self._ended(again)]
        return told

    async def _ordered(self, strategy: str) -> Run:
        async with self._here.db.writing() as session:
            order = runs.Order(catalogue=self._here.name, strategy=strategy, release=True)
            return await runs.request(session, order, "turmoil")

    async def _ended(self, run: Run) -> dict[str, Any]:
        ended = await self._here.ended(run.id, OVER_SECONDS)
        return {"run": ended.id, "state": ended.state, "error": (ended.error or {}).get("code")}

    # --- rollbacks ---

    async def _rollback(self) -> Any:
        answer = await self._here.rollback()
        await anyio.sleep(self._dice.uniform(0, 1))
        await self._release()
        return dict(answer)

    async def _rollback_meanwhile(self) -> Any:
        """Back while a run builds: its move fails."""
        run = await self._ordered(self._dice.choice(("full", "incremental")))
        await anyio.sleep(self._dice.uniform(0, 2))
        try:
            answer = await self._here.rollback()
        finally:
            told = await self._ended(run)
        await self._release()
        return [dict(answer), told]

    async def _release(self) -> None:
        async with self._here.db.writing() as session:
            await catalogues.release(session, self._here.name, "turmoil")

    # --- the rest ---

    async def _recipe(self) -> Any:
        await self.declare(self._dice.randrange(len(RECIPES)))
        return await self._ended(await self._ordered("incremental"))

    async def _pause(self) -> None:
        """Events are accepted and wait."""
        await self._paused(True)
        await anyio.sleep(self._dice.uniform(0, 1))
        await self._paused(False)

    async def _paused(self, paused: bool) -> None:
        async with self._here.db.writing() as session:
            await catalogues.patch(session, self._here.name, "turmoil", paused=paused)

    async def _other_worker(self) -> None:
        """A worker leaves in the midst of its work and another one comes."""
        assert self._workers is not None
        leaving = self._workers.pop(0)
        self._workers.append(await self._here.work())
        await leaving.drain()
