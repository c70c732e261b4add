"""What a run works on, and how it says where it is."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from anyio import current_time, sleep

from app.sync.engine_port import Engine, VectorStore
from app.sync.judgements import Judgements
from app.sync.limits import Limits
from app.sync.planning import Plan
from app.sync.ports import Embedder, Ledger, Live, Look, Snapshot, Source
from app.sync.tally import Tally


@dataclass(frozen=True)
class Ports:
    """What a run works on, and what was ordered. `ceiling` is how many deletions somebody approved of, `price`
    the US dollars for a million tokens of the model, None where nobody said."""

    source: Source
    target: Engine
    embedder: Embedder
    store: VectorStore
    ledger: Ledger
    limits: Limits
    tally: Tally
    plan: Callable[[], Awaitable[Plan]]
    clean: Callable[[], Awaitable[object]]
    embedder_of: Callable[[Live], Awaitable[Embedder]]
    slices: int
    strategy: str = "full"
    dry_run: bool = False
    ceiling: int | None = None
    price: float | None = None
    judgements: Judgements | None = None


async def enter(ports: Ports, stage: str) -> None:
    """The run is in this stage now; a cancel that came before is heard here at the latest."""
    ports.tally.enter(stage)
    await ports.ledger.stage(stage)


@asynccontextmanager
async def opened(ports: Ports) -> AsyncIterator[Snapshot]:
    """The source at one point in time, which is written down before it is used."""
    async with ports.source.snapshot(ports.slices, partial(_remember, ports.ledger)) as snapshot:
        ports.tally.add(source=snapshot.count)
        yield snapshot


async def _remember(ledger: Ledger, pit: str, look: Look) -> None:
    await ledger.pit(pit, look.index, look.uuid)


async def wait(ports: Ports, seconds: float) -> None:
    """Let time pass on purpose, which is no stall."""
    end = current_time() + seconds
    while (left := end - current_time()) > 0:
        await sleep(min(left, 1.0))
        ports.tally.moved()
