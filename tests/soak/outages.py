"""A dependency that is out for a while, and the writer goes on; the same proof afterwards.

| engine | its connections are broken off, new ones refused |
| embedder | every request is answered 429 |
| database | its connections are broken off, new ones refused |

Nothing is lost, everything goes on by itself once the dependency is back, and while it is out one applier at a time
tries.
"""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from sqlmodel import col, func, select

from app.config import EmbedderSettings, EngineSettings
from app.db import heard
from app.intake import Intake
from app.models import Event
from app.sync.breaker import Breaker
from app.sync.limits import EVENTS_SECONDS
from tests.embedding_server import EmbeddingServer
from tests.gates import QUICK
from tests.gateway import passage
from tests.soak.checks import Difference
from tests.soak.facts import Facts
from tests.soak.journal import Journal
from tests.soak.road import Road
from tests.soak.soak import PRODUCTS, Proof, given, proven
from tests.soak.turmoil import POLICY
from tests.soak.witness import Witness
from tests.soak.writer import Writer
from tests.stack import Stack, stack
from tests.telling import MANY, Trace

AROUND = 5.0
"""Seconds of a good day before and after."""

GRACE = 2 * EVENTS_SECONDS
"""What was let in before a breaker opened may go on for so many seconds."""

MODEL = {"provider": "openai", "model": "some-model"}


@dataclass
class Dependency:
    """Something that can be out. Without a *breaker* whoever needs it knocks as often as it likes."""

    settings: Mapping[str, Any]
    go: Callable[[], None]
    come: Callable[[], None]
    breaker: str | None = None
    method: str = ""
    recipe: Mapping[str, Any] = field(default_factory=lambda: QUICK)

    def traced(self, here: Stack) -> "tuple[Breaker, Probes] | None":
        """What appliers try while its breaker is open."""
        if self.breaker is None:
            return None
        breaker = here.connections.breaker(self.breaker.format(shop=here.shop.alias))
        if not self.method:
            return breaker, InHand(here, breaker)
        trace = Trace(breaker, lambda _: 1, GRACE)
        here.gate(self.method, trace)
        return breaker, trace


class InHand:
    """How many entries appliers have in hand while a breaker that nobody passes is open, again and again."""

    def __init__(self, here: Stack, breaker: Breaker) -> None:
        self.probes: list[tuple[int, int]] = []
        self._here, self._breaker = here, breaker

    async def run(self, over: anyio.Event) -> None:
        """Until it is over."""
        query, since = select(func.count()).where(col(Event.status) == "processing"), float("inf")
        while not await heard(over, 0.1):
            since = min(since, anyio.current_time()) if self._breaker.is_open else float("inf")
            if anyio.current_time() - since > GRACE:
                async with self._here.db.reading() as session:
                    held = (await session.exec(query)).one()
                self.probes += [(held, held)] if held and self._breaker.is_open else []


Probes = Trace | InHand


@asynccontextmanager
async def engine(url: str) -> AsyncIterator[Dependency]:
    """The engine at *url*, source and target in one."""
    async with passage(url) as way:
        yield Dependency(
            {"engines": {"main": EngineSettings(url=way.url)}},
            way.cut,
            way.mend,
            "source:main/{shop}",
        )


@asynccontextmanager
async def database(url: str) -> AsyncIterator[Dependency]:
    """The database at *url*."""
    async with passage(url) as way:
        yield Dependency({"database_url": way.url}, way.cut, way.mend)


@asynccontextmanager
async def embedder() -> AsyncIterator[Dependency]:
    """A compatible endpoint."""
    with EmbeddingServer() as server:
        yield Dependency(
            {"embedders": {"openai": EmbedderSettings(url=server.url, api_key="sk-secret", timeout=10)}},
            partial(server.always, "429"),
            partial(server.always, "ok"),
            "embedder:openai/some-model",
            "embed",
            {**QUICK, "embedder": MODEL},
        )


async def outage(
    url: str, folder: Path, dependency: AbstractAsyncContextManager[Dependency], *, seconds: float, seed: int
) -> Proof:
    """*dependency* is out for so many seconds while the shop goes on."""
    async with dependency as it, stack(url, folder, works=False, lease_seconds=5, **it.settings) as here:
        for _ in range(2):
            await here.work()
        with closing(Journal(folder / f"outage-{seed}-{here.name}.jsonl")) as journal:
            return await endured(it, here, journal, seconds, seed)


async def endured(it: Dependency, here: Stack, journal: Journal, seconds: float, seed: int) -> Proof:
    """A good day, the outage, a good day; the proof."""
    road = Road(partial(given, here, Intake(here.db, MANY)), random.Random(seed + 1), journal)
    writer, witness = Writer(here.shop, road, journal, seed), Witness(here.db, here.name)
    writer.open(PRODUCTS)
    await here.declare(recipe=it.recipe, policy=POLICY)
    run = await here.sync()
    assert (run.state, run.error) == ("ready", None)
    traced, over = it.traced(here), anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(writer.run, over)
        group.start_soon(witness.run, over)
        if traced and isinstance(traced[1], InHand):
            group.start_soon(traced[1].run, over)
        await anyio.sleep(AROUND)
        it.go()
        await anyio.sleep(seconds)
        it.come()
        await anyio.sleep(AROUND)
        over.set()
    return await proven(here, journal, witness, partial(at_the_breaker, traced))


def at_the_breaker(traced: tuple[Breaker, Probes] | None, _facts: Facts) -> list[Difference]:
    """It opened, one at a time tried, and it closed again."""
    if traced is None:
        return []
    breaker, trace = traced
    wrong = [f"{at_once} tried at once" for _, at_once in trace.probes if at_once != 1]
    wrong += [] if trace.probes else ["nobody tried while it was open"]
    wrong += ["it is still open"] if breaker.is_open else []
    return [Difference("breaker", one) for one in wrong]
