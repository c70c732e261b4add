"""The durable side of one run, as the pipeline knows it: each call is one transaction, bound to the lease of the run.

Every call first locks the run's row under the condition that this worker's fence holds it and the lease has not run
out; otherwise it raises `LeaseLost` and has written nothing. A requested cancel is heard in every call up to
promotion (`RunCanceled`), but not in those that clean up: leaving must work after a cancel. Once a run is promoting
only `promote` hears it, as long as the alias has not moved: the switch is given up. `report` writes its figures first
and raises afterwards, so that a canceled run keeps what it counted.

A database out of reach is waited for where a call begins, as nothing has been written there; a commit that broke off
may have been made, so it is never repeated: its error leaves.
"""

import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from typing import Any, Literal

from anyio import current_time, sleep
from sqlalchemy import delete, insert
from sqlmodel import col

from app import backlog, catalogues, generations, history, leases, progress, switches
from app.aliases import Stand, findings, look
from app.columns import utc_now
from app.db import Database, ReadSession, WriteSession, clock_ms
from app.errors import RunCanceled, Unavailable
from app.models import ChangeRow, Generation, RejectRow, Run
from app.runs import PAST_CANCEL
from app.spec import RecipeSpec
from app.sync.engine_port import Engine
from app.sync.words import Change, Draft, Mark, ModelStamp, Reject, Verdict, Withheld

REJECTS_KEPT = 10_000
"""Rejects of a run that are kept one by one; its counts are always whole."""


class RunLedger:
    """Implements `app.sync.ports.Ledger` for a run that was claimed with *run.fence*.

    *patience* is how many seconds a database out of reach is waited for: no longer than the lease.
    """

    def __init__(self, db: Database, target: Engine, run: Run, patience: float = 0.0) -> None:
        self.db, self.target, self.patience = db, target, patience
        self.run, self.fence, self.catalogue = run.id, run.fence, run.catalogue
        self._stand: Stand | None = None
        self._first: int | None = None

    # --- the run's row ---

    async def stage(self, stage: str) -> None:
        """The run is in this stage now."""
        async with self._held() as (session, run):
            run.stage = stage
            await self._say(session, "stage", {"stage": stage})

    async def report(self, figures: Mapping[str, Any]) -> None:
        """Counts and stages as they stand now: onto the run's row, and a progress line of kind `counts`."""
        async with self._held(cancels=False, waits=False) as (session, run):
            run.counts, run.stages = dict(figures["counts"]), list(figures["stages"])
            run.cost = {"tokens": figures["tokens"], "usd": figures.get("usd")}
            await self._say(session, "counts", figures)
        _heed(run)

    async def note(self, kind: str, data: Mapping[str, Any]) -> None:
        """One progress line."""
        async with self._held() as (session, _):
            await self._say(session, kind, data)

    async def reject(self, rejects: Sequence[Reject]) -> None:
        """Keep rejects with their reasons, as many as there is room for."""
        if not rejects:
            return
        async with self._held() as (session, run):
            kept = rejects[: max(REJECTS_KEPT - run.reject_rows, 0)]
            run.reject_rows += len(kept)
            session.add_all(RejectRow(run=run.id, **asdict(one)) for one in kept)

    async def changes(self, changes: Sequence[Change]) -> None:
        """Into the change log, with the run that carries them."""
        if not changes:
            return
        same = {"catalogue": self.catalogue, "run": self.run, "at": utc_now()}
        rows = [asdict(one) | {"fields": list(one.fields)} | same for one in changes]
        async with self._held() as (session, _):
            await session.exec(insert(ChangeRow), params=rows)

    async def decide(self, strategy: str, plan: Mapping[str, Any]) -> None:
        """What the run does, as it was decided, and its plan: onto the run's row, and a progress line."""
        async with self._held() as (session, run):
            run.strategy, run.plan = strategy, dict(plan)
            await self._say(session, "note", {"plan": run.plan})

    async def pace(self, strategy: str) -> float | None:
        """Products a second, planning to cleaning, of the last ready runs of *strategy*; None without history."""
        async with self.db.reading() as session:
            _heed(await leases.held(session, self.run, self.fence))
            return await history.pace(session, self.catalogue, strategy)

    async def foreseen(self, recipe_hash: str) -> Mapping[str, Any] | None:
        """The plan of a dry run of the same catalogue and recipe that ended within the last hour."""
        async with self.db.reading() as session:
            _heed(await leases.held(session, self.run, self.fence))
            return await history.foreseen(session, self.catalogue, recipe_hash)

    async def begin_again(self) -> None:
        """The draft was dropped on the way and another one follows: the changes and rejects noted so far go."""
        async with self._held() as (session, run):
            run.reject_rows = 0
            since = run.started_at or run.requested_at
            noted = (col(ChangeRow.catalogue) == self.catalogue, col(ChangeRow.at) >= since)  # for the index
            await session.exec(delete(ChangeRow).where(*noted, col(ChangeRow.run) == self.run))
            await session.exec(delete(RejectRow).where(col(RejectRow.run) == self.run))

    async def withhold(self, withheld: Sequence[Withheld]) -> None:
        """What guards withheld, onto the run's row and, when there is something, into its story."""
        async with self._held() as (session, run):
            run.withheld = [asdict(one) for one in withheld]
            if withheld:
                await self._say(session, "note", {"withheld": run.withheld})

    async def pit(self, pit: str | None, index: str | None = None, uuid: str | None = None) -> None:
        """The point in time this run holds, None when it is closed."""
        async with self._held(cancels=pit is not None) as (_, run):
            run.pit = pit
            if pit is not None:
                run.source_index, run.source_uuid = index, uuid

    async def number(self) -> int:
        """The next version of this catalogue, committed before anything is read: max(last + 1, clock in ms)."""
        async with self._held() as (session, run):
            catalogue = await catalogues.locked(session, self.catalogue)
            catalogue.number = run.number = max(catalogue.number + 1, await clock_ms(session))
        self._first = self._first or catalogue.number
        return catalogue.number

    # --- the draft ---

    async def live(self) -> Generation | None:
        """The live generation, None before the first switch."""
        async with self.db.reading() as session:
            _heed(await leases.held(session, self.run, self.fence))
            return await generations.live(session, self.catalogue)

    async def alias_findings(self) -> Sequence[Mapping[str, str]]:
        """What is wrong with the alias now, as `{"code", "detail"}`; empty when a switch could work."""
        stand = await look(self.db, self.target, self.catalogue)
        async with self.db.reading() as session:
            run = await leases.held(session, self.run, self.fence)
        _heed(run)
        if stand.open or stand.number != run.switch_seen:
            told = switches.overtaken()
            return [{"code": told.code, "detail": told.detail}]
        return findings(stand)

    async def register(
        self, recipe: RecipeSpec, recipe_hash: str, stamp: ModelStamp, cloned_from: str | None = None
    ) -> Draft:
        """A new draft's row, and the end of drafts that were refused before; where the alias stands is noted.

        Their rows go first: an index that is then not dropped, because this process ends here, is the sweeper's. A
        clone (of the generation *cloned_from*) is not fed before `feed`: nothing may be written to it until then.
        """
        self._stand = await look(self.db, self.target, self.catalogue)
        async with self._held() as (session, run):
            catalogue = await catalogues.locked(session, self.catalogue)
            refused = await generations.refused(session, self.catalogue)
            for old in refused:
                old.state = "dropped"
            row = await generations.register(
                session, catalogue, run, recipe, recipe_hash=recipe_hash, stamp=stamp, cloned_from=cloned_from
            )
        for old in refused:
            await self.target.drop(old.index)
        return Draft(self.catalogue, self.run, row.id, row.index, self.fence, recipe_hash)

    async def feed(self, draft: Draft) -> None:
        """The clone is there: it joins the fed set. Raises `Conflict` when it is no draft any more."""
        async with self._held() as (session, _):
            catalogue = await catalogues.locked(session, self.catalogue)
            await generations.feed(session, catalogue, draft.generation)

    async def aliases(self, draft: Draft) -> Sequence[str]:
        """The aliases a draft is born with: `fill`, `feed`, and `<alias>.switch-n` where no live index carries it.

        A clone is made of a live index, which carries it.
        """
        stand = self._stand or await look(self.db, self.target, self.catalogue)
        own = [draft.fill, draft.feed]
        return own if stand.live else [*own, stand.token]

    async def mark(self, draft: Draft) -> Mark:
        """What the draft's index says of itself, so that the sweeper knows it for ours."""
        async with self.db.reading() as session:
            owner = await generations.owner(session)
        return Mark(owner, draft.catalogue, draft.run, draft.generation, draft.recipe_hash)

    async def sealed(self, draft: Draft, documents: int) -> None:
        """The draft is whole and proof begins; what events deleted since it was registered is looked at again.

        Engines forget deletes, so a late document of the run may have come back behind one.
        """
        async with self._held() as (session, _):
            catalogue = await catalogues.locked(session, self.catalogue)
            sealed = await generations.seal(session, catalogue, draft.generation, documents)
            await backlog.replay_deletions(session, self.catalogue, sealed.since)

    async def touched(self, draft: Draft) -> AsyncIterator[Sequence[str]]:
        """The products of which events told since the draft was registered, some at a time: they may be newer in it
        than the run knows."""
        async with self.db.reading() as session:
            async for ids in backlog.touched(session, self.catalogue, await self._since(session, draft)):
                yield ids

    async def told_of(self, draft: Draft, ids: Sequence[str]) -> Collection[str]:
        """Those of *ids* of which events told since the draft was registered."""
        async with self.db.reading() as session:
            return await backlog.told_of(session, self.catalogue, await self._since(session, draft), ids)

    async def _since(self, session: ReadSession, draft: Draft) -> int:
        """The number beyond which events may have written what the run does not know: the draft's; of a repair, which
        reads again under one number after the other, its first."""
        _heed(await leases.held(session, self.run, self.fence))
        if draft.repairs:
            return self._first or 0
        return (await generations.get(session, self.catalogue, draft.generation)).since

    async def waiting(self, mark: int) -> tuple[int, str]:
        """How many events received up to *mark* wait to be applied, and the word for what most of them wait for."""
        async with self.db.reading() as session:
            _heed(await leases.held(session, self.run, self.fence))
            return await backlog.waiting(session, self.catalogue, mark)

    async def event_mark(self) -> int:
        """A mark for `waiting`: this moment, by the clock that events are received by."""
        async with self.db.reading() as session:
            _heed(await leases.held(session, self.run, self.fence))
            return await clock_ms(session)

    async def verdict(self, draft: Draft, verdict: Verdict) -> None:
        """Keep it; a refused draft leaves the fed set and stays until the next run."""
        shown = _shown(verdict)
        async with self._held() as (session, run):
            run.verdict = shown
            catalogue = await catalogues.locked(session, self.catalogue)
            if not verdict.passed and not draft.repairs:
                await generations.leave(session, catalogue, draft.generation, "refused")
            await self._say(session, "verdict", shown)

    async def abandon(self, draft: Draft, state: Literal["dropped", "refused"]) -> None:
        """The draft leaves; its index is the caller's to drop. Raises `Conflict` when a switch names it or moved it."""
        async with self._held(cancels=False) as (session, _):
            catalogue = await catalogues.locked(session, self.catalogue)
            await generations.leave(session, catalogue, draft.generation, state)

    # --- the switch ---

    async def promote(self, draft: Draft) -> None:
        """The numbered switch: intent committed, alias moved, read back, committed.

        Raises `SwitchSpent` when nothing moved and nothing of it can move any more, with code `rolled_back_meanwhile`,
        `alias_moved` or `switch_spent`, and `RunCanceled` when that is so because of a cancel. Any other error leaves
        the switch open, for whoever settles the run.
        """
        stand = await look(self.db, self.target, self.catalogue)
        if self._stand is None or stand.source != self._stand.source:
            await self._refuse_moved(stand)
        async with self._held(cancels=False) as (session, run):
            catalogue = await catalogues.locked(session, self.catalogue)
            switch = await switches.open_promotion(session, catalogue, run, draft.generation, stand)
        settled = await switches.settle(self.db, self.target, self.catalogue, number=switch.number)
        if settled is None or settled.state != "moved":
            raise await switches.why_burnt(self.db, self.target, switch)

    async def _refuse_moved(self, stand: Stand) -> None:
        async with self.db.reading() as session:
            run = await leases.held(session, self.run, self.fence)
        if stand.open or stand.number != run.switch_seen:
            raise switches.overtaken()
        raise switches.moved_away(stand.alias)

    # --- how ---

    @asynccontextmanager
    async def _held(self, *, cancels: bool = True, waits: bool = True) -> AsyncIterator[tuple[WriteSession, Run]]:
        async with AsyncExitStack() as stack:
            session, run = await self._entered(stack, self.patience if waits else 0.0)
            if cancels:
                _heed(run)
            yield session, run
            await session.flush()

    async def _entered(self, stack: AsyncExitStack, patience: float) -> tuple[WriteSession, Run]:
        deadline = current_time() + patience
        while True:
            try:
                return await stack.enter_async_context(self._locked())
            except Unavailable:
                if current_time() >= deadline:
                    raise
            await sleep(random.uniform(0.2, 0.6))  # noqa: S311 - spreads callers out, keeps no secret

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[tuple[WriteSession, Run]]:
        async with self.db.writing() as session:
            yield session, await leases.locked(session, self.run, self.fence)

    async def _say(self, session: WriteSession, kind: str, data: Mapping[str, Any]) -> None:
        await session.flush()
        await progress.say(session, self.catalogue, kind, data, self.run)


def _heed(run: Run) -> None:
    if run.cancel_requested and run.stage not in PAST_CANCEL:
        raise RunCanceled(f"Canceled by {run.canceled_by}.")


def _shown(verdict: Verdict) -> dict[str, Any]:
    return {"passed": verdict.passed, "checks": [asdict(check) for check in verdict.checks]}
