"""A database, an engine and one catalogue, and the steps of a run as its worker takes them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from app import catalogues, generations, runs, switches
from app.db import Database, ensure_schema, open_database
from app.ledger import RunLedger
from app.models import Generation, Run
from app.spec import CatalogueSpec, RecipeSpec
from app.sync.engines.memory import MemoryEngine
from app.sync.words import Check, Draft, ModelStamp, Shape, Verdict
from tests.contract.unsteady import Unsteady

ALIAS = "rag-live"
STAMP = ModelStamp("hashing-64", "1", 64)
RECIPE = RecipeSpec(template="{{ name }}", fields={"name": {"type": "text"}})
SHAPE = Shape({"name": "text"}, 64)
PASSED = Verdict([Check("count", 3, 3, True)])
REFUSED = Verdict([Check("count", 3, 2, False, "One product is missing.")])


def spec(alias: str = ALIAS, **policy: Any) -> CatalogueSpec:
    source = {"kind": "index", "index": "shop"}
    return CatalogueSpec.model_validate({"source": source, "target": {"alias": alias}, "policy": policy})


@dataclass
class World:
    db: Database
    engine: Unsteady
    name: str = "shop"
    alias: str = ALIAS

    @property
    def connections(self) -> Any:
        return _Connections(self.engine)

    @property
    def twin(self) -> MemoryEngine:
        return self.engine.engine

    def foreign(self, index: str, *names: str) -> None:
        """An index that is not ours, with aliases."""
        self.twin.seed(index, {}, aliases=names)

    def put(self, index: str, alias: str = ALIAS) -> None:
        """By hand, as an operator with curl would."""
        self.twin.indices[index].aliases[alias] = False

    def take(self, index: str, alias: str = ALIAS) -> None:
        del self.twin.indices[index].aliases[alias]

    async def declare(self, **policy: Any) -> None:
        async with self.db.writing() as session:
            await catalogues.declare(session, self.name, spec(self.alias, **policy))

    # --- a run, as its worker takes it ---

    async def order(self, who: str = "alice", **order: Any) -> Run:
        async with self.db.writing() as session:
            return await runs.request(session, runs.Order(catalogue=self.name, **order), who)

    async def claim(self, seconds: float = 60, worker: str = "w1") -> RunLedger:
        async with self.db.writing() as session:
            run = await runs.claim(session, worker, seconds)
        assert run is not None
        return RunLedger(self.db, self.engine, run)

    async def build(self, ledger: RunLedger, verdict: Verdict = PASSED) -> Draft:
        await ledger.stage("planning")
        draft = await ledger.register(RECIPE, "hash", STAMP)
        await self.engine.create(draft.index, SHAPE, await ledger.aliases(draft), await ledger.mark(draft))
        await ledger.stage("sealing")
        await self.engine.swap_alias(draft.index, draft.fill, draft.sealed)
        await ledger.sealed(draft, 3)
        await ledger.stage("verifying")
        await ledger.verdict(draft, verdict)
        if verdict.passed:
            await ledger.stage("promoting")
        return draft

    async def begun(self, **order: Any) -> tuple[RunLedger, Draft]:
        """A run that has got as far as promotion."""
        await self.order(**order)
        ledger = await self.claim()
        return ledger, await self.build(ledger)

    async def synced(self, **order: Any) -> Generation:
        """A whole run."""
        ledger, draft = await self.begun(**order)
        await ledger.promote(draft)
        await self.finish(ledger, "ready")
        return await self.generation(draft.generation)

    async def finish(self, ledger: RunLedger, state: str, error: Any = None) -> Run:
        async with self.db.writing() as session:
            return await runs.finish(session, ledger.run, ledger.fence, state, error)

    async def expire(self, run_id: str) -> None:
        """The worker says nothing for longer than its lease lasts."""
        async with self.db.writing() as session:
            run = await runs.get(session, run_id)
            run.lease_until = 1

    async def rollback(self, **how: Any) -> dict[str, Any]:
        return await switches.rollback(self.db, self.connections, self.name, who="olga", **how)

    async def release(self) -> None:
        async with self.db.writing() as session:
            await catalogues.release(session, self.name, "olga")

    # --- what is there ---

    async def run(self, run_id: str) -> Run:
        async with self.db.reading() as session:
            return await runs.get(session, run_id)

    async def generation(self, generation: str) -> Generation:
        async with self.db.reading() as session:
            return await generations.get(session, self.name, generation)

    async def live(self) -> str | None:
        """The index that the database says is live; the alias must be on it, on no other, with the next number."""
        async with self.db.reading() as session:
            live = await generations.live(session, self.name)
            number = (await catalogues.get(session, self.name)).switch_number
        on = [info.name for info in await self.engine.engine.resolve(self.alias)]
        numbered = [info.name for info in await self.engine.engine.resolve(f"{self.alias}.switch-{number}")]
        assert on == numbered == ([live.index] if live else []), (on, numbered, live)
        return live.index if live else None


@dataclass
class _Connections:
    target: Unsteady

    async def engine(self, _name: str) -> Any:
        return self.target


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """A database with the schema of this version."""
    db = await open_database(url)
    try:
        if (await db.revision())[0] is None and db.dialect != "sqlite":
            await db.upgrade()
        await ensure_schema(db)
        yield db
    finally:
        await db.close()


@asynccontextmanager
async def world_on(url: str, **policy: Any) -> AsyncIterator[World]:
    async with opened(url) as db:
        world = World(db, Unsteady(MemoryEngine()))
        await world.declare(**policy)
        yield world
