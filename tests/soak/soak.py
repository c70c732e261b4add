"""One soak in one process: two workers, a writer, turmoil, a witness; then silence, and the proof."""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import orjson

from app import backlog, sweeper
from app.db import heard
from app.errors import Unavailable
from app.intake import Intake
from app.notices import Notice
from tests.soak.checks import Difference, differences, idle
from tests.soak.facts import Facts, gathered
from tests.soak.journal import Journal
from tests.soak.report import report, summary
from tests.soak.road import Road, Send, Told
from tests.soak.turmoil import Turmoil
from tests.soak.witness import Witness
from tests.soak.writer import Writer
from tests.stack import Stack, stack

PRODUCTS = 150

EMPTY_SECONDS = 120.0
"""So soon the outbox is empty when nobody tells anything any more: two leases, for claims of the dead."""


@dataclass
class Proof:
    """How a soak came out. `report` is a file that tells everything, there when something differs."""

    summary: Mapping[str, Any]
    found: Sequence[Difference]
    journal: Path
    report: Path | None = None

    def __str__(self) -> str:
        told = [f"{one.check} {one.product or ''}: {one.what}" for one in self.found[:20]]
        return "\n".join(
            [orjson.dumps(self.summary).decode(), *told, f"journal: {self.journal}, report: {self.report}"]
        )


Also = Callable[[Facts], list[Difference]]
"""One more check."""


@dataclass
class Scene:
    """Everybody who takes part."""

    here: Stack
    journal: Journal
    writer: Writer
    turmoil: Turmoil
    witness: Witness
    over: anyio.Event = field(default_factory=anyio.Event)
    settled: anyio.Event = field(default_factory=anyio.Event)

    async def begin(self) -> None:
        """A shop with a first generation."""
        self.writer.open(PRODUCTS)
        await self.turmoil.declare()
        first = await self.here.queued()
        ended = await self.here.ended(first.id)
        assert (ended.state, ended.error) == ("ready", None)

    @asynccontextmanager
    async def commotion(self) -> AsyncIterator[None]:
        """All at once, until the block ends or it is `over`; then what is under way comes to its end: `settled`."""
        async with anyio.create_task_group() as outer:
            outer.start_soon(self._parts)
            yield
            self.over.set()

    async def _parts(self) -> None:
        async with anyio.create_task_group() as group:
            for part in (self.writer.run, self.turmoil.run, self.witness.run):
                group.start_soon(part, self.over)
        self.settled.set()

    async def proven(self, also: Also = lambda _: []) -> Proof:
        """The proof."""
        return await proven(self.here, self.journal, self.witness, also)


async def proven(here: Stack, journal: Journal, witness: Witness, also: Also = lambda _: []) -> Proof:
    """When nothing waits any more: the checks, and a report of what they found."""
    waits = await emptied(here)
    await sweeper.sweep(here.db, here.connections)
    await witness.look()
    facts = await gathered(here)
    found = [*differences(facts, journal, witness), *also(facts)]
    found += [Difference("outbox", f"not empty after {EMPTY_SECONDS:g} s: {waits}")] if waits else []
    made = Proof(summary(facts, found, journal), found, journal.path)
    if found:
        made.report = journal.path.with_suffix(".report.json")
        made.report.write_bytes(orjson.dumps(report(facts, found, journal), option=orjson.OPT_INDENT_2))
    return made


@asynccontextmanager
async def scene(here: Stack, seed: int, send: Send, workers: list[Any] | None) -> AsyncIterator[Scene]:
    """The parts of a soak over *here*, with dice of their own each."""
    journal = Journal(here.folder / f"soak-{seed}-{here.name}.jsonl")
    try:
        road = Road(send, random.Random(seed + 1), journal)
        yield Scene(
            here,
            journal,
            Writer(here.shop, road, journal, seed),
            Turmoil(here, journal, seed + 2, workers),
            Witness(here.db, here.name),
        )
    finally:
        journal.close()


async def soak(url: str, folder: Path, *, seconds: float, seed: int, **settings: Any) -> Proof:
    """A soak on the engine at *url*; *settings* are the stack's. What it wrote down is in *folder*."""
    async with stack(url, folder, works=False, lease_seconds=5, **settings) as here:
        workers = [await here.work(), await here.work()]
        async with scene(here, seed, partial(given, here, Intake(here.db, 1_000_000)), workers) as made:
            await made.begin()
            async with made.commotion():
                await anyio.sleep(seconds)
            return await made.proven(idle)


async def given(here: Stack, intake: Intake, told: Sequence[Told]) -> Mapping[str, int]:
    """Into the outbox of this process, again until they are accepted."""
    never = anyio.Event()
    while True:
        try:
            return await intake.take(here.name, [Notice(**one) for one in told])
        except Unavailable:
            await heard(never, 0.2)


async def emptied(here: Stack, seconds: float = EMPTY_SECONDS) -> int:
    """Wait until nothing waits in the outbox, at most so long; how many entries still do."""
    never, waits = anyio.Event(), 1
    with anyio.move_on_after(seconds):
        while waits:
            async with here.db.reading() as session:
                figures = await backlog.of(session, here.name)
            waits = int(figures["pending"]) + int(figures["processing"])
            await heard(never, 0.1)
    return waits
