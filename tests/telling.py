"""Events in a test's hands: tell, wait until they are over, see that every fed generation is what the source says."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from sqlalchemy import update
from sqlmodel import col

from app import events, intake
from app.db import heard
from app.errors import Problem
from app.intake import Room
from app.models import Event
from app.notices import Notice
from app.sync.breaker import Breaker
from tests.gates import QUICK
from tests.soak import checks, facts
from tests.stack import Gate, Stack, ask, stock

POLICY = {"settle_seconds": 0.3, "shrink": {"documents": 20, "percent": 10}}
OVER = ("done", "failed")
MANY = 1_000_000


class On(Gate):
    """Stops the calls that fit, all of them or the first one only, and keeps how they were answered or refused."""

    def __init__(self, fits: Callable[[tuple[Any, ...]], bool], *, once: bool = False) -> None:
        super().__init__()
        self.answers: list[Any] = []
        self._fits, self._once = fits, once

    async def call(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """The call, once the gate is open where it fits."""
        if not self._fits(args) or (self._once and self.reached.is_set()):
            return await method(*args, **named)
        await self.passed()
        try:
            self.answers.append(await method(*args, **named))
        except Problem as problem:
            self.answers.append(problem)
            raise
        return self.answers[-1]


class Trace(Gate):
    """Notes what appliers ask while their breaker is open: of how many products, how many requests at once.

    What was let in before it opened may go on for as long as it would have been tried: *grace* seconds.
    """

    def __init__(self, breaker: Breaker, many: Callable[[tuple[Any, ...]], int], grace: float) -> None:
        """*many*: of how many products a call is; 0 for one that is no applier's."""
        super().__init__()
        self.probes: list[tuple[int, int]] = []
        self._breaker, self._many, self._grace = breaker, many, grace
        self._under_way, self._opened_at = 0, float("inf")

    async def call(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """The call as it comes."""
        if not self._many(args):
            return await method(*args, **named)
        now, self._under_way = time.monotonic(), self._under_way + 1
        self._opened_at = min(self._opened_at, now) if self._breaker.is_open else float("inf")
        if now - self._opened_at > self._grace:
            self.probes.append((self._many(args), self._under_way))
        try:
            return await method(*args, **named)
        finally:
            self._under_way -= 1


def to(end: str, **how: Any) -> On:
    """Stops bulk requests through aliases that have *end* in their names."""
    return On(lambda args: end in args[0], **how)


async def stands(gate: Gate, seconds: float = 60) -> None:
    """Somebody stands before it."""
    with anyio.fail_after(seconds):
        await gate.reached.wait()


# --- the outbox ------------------------------------------------------------------------------------------------------


async def tell(here: Stack, *ids: str, **how: Any) -> dict[str, int]:
    """Events of these products."""
    return await intake.take(here.db, here.name, [Notice(product_id=one, **how) for one in ids], Room(MANY))


async def entries(here: Stack, *ids: str) -> Sequence[Event]:
    """Entries of these products (or all), newest first."""
    found: list[Event] = []
    cursor: str | None = None
    while True:
        async with here.db.reading() as session:
            rows, cursor = await events.listed(session, here.name, 500, cursor, status=None, product_id=None)
        found += rows
        if cursor is None:
            return [row for row in found if not ids or row.product_id in ids]


async def settled(here: Stack, *ids: str, seconds: float = 60) -> Sequence[Event]:
    """The entries of these products (or all), when none of them waits any more."""
    return await entries_when(
        here, lambda rows: bool(rows) and all(row.status in OVER for row in rows), *ids, seconds=seconds
    )


async def entries_when(
    here: Stack, so: Callable[[Sequence[Event]], bool], *ids: str, seconds: float = 60
) -> Sequence[Event]:
    """The entries of these products (or all) as soon as they are *so*."""
    never, rows = anyio.Event(), await entries(here, *ids)
    with anyio.move_on_after(seconds) as late:
        while not so(rows):
            await heard(never, 0.05)
            rows = await entries(here, *ids)
    assert not late.cancelled_caught, [row.model_dump(include=SHOWN) for row in rows if row.status not in OVER][:5]
    return rows


SHOWN = {"product_id", "status", "reason_code", "detail", "attempts", "lives"}


async def lapse(here: Stack) -> None:
    """Every lease has run out."""
    async with here.db.writing() as session:
        await session.exec(update(Event).where(col(Event.status) == "processing").values(lease_until=1))


# --- the catalogue ---------------------------------------------------------------------------------------------------


async def ready(
    here: Stack, count: int = 40, recipe: Any = QUICK, *, fill: bool = True, **policy: Any
) -> dict[str, dict[str, Any]]:
    """A live generation of some products; those of them that are in it, as the source has them."""
    if fill:
        here.shop.fill(stock(count))
    await here.declare(recipe=recipe, policy=POLICY | policy)
    run = await here.sync()
    assert (run.state, run.error) == ("ready", None)
    held = versions(here, here.alias)
    hits = ask(here.url, "GET", f"/{here.shop.alias}/_search?size=10000")["hits"]["hits"]
    return {hit["_id"]: hit["_source"] for hit in hits if hit["_id"] in held}


def rename(here: Stack, products: dict[str, dict[str, Any]], one: str, name: str) -> None:
    """The shop gives a product another name."""
    products[one] = {**products[one], "name": [name]}
    here.shop.put(here.shop.alias, [(one, products[one])])


def versions(here: Stack, index: str) -> dict[str, int]:
    """The version of each document of an index."""
    ask(here.url, "POST", f"/{index}/_refresh")
    hits = ask(here.url, "GET", f"/{index}/_search?size=10000&version=true&_source=false")["hits"]["hits"]
    return {hit["_id"]: hit["_version"] for hit in hits}


def text_of(here: Stack, index: str, one: str) -> str:
    """What is written of a product, in real time."""
    return str(ask(here.url, "GET", f"/{index}/_doc/{one}")["_source"]["text"])


async def assert_equal(here: Stack) -> None:
    """Each generation that events reach is what its own recipe makes of the source as it is now."""
    found = list(checks.documents(await facts.gathered(here)))
    assert not found, "; ".join(f"{one.product}: {one.what}" for one in found[:5])


@asynccontextmanager
async def flooded(
    here: Stack, products: dict[str, dict[str, Any]], changed: Sequence[str], gone: Sequence[str]
) -> AsyncIterator[None]:
    """Meanwhile some products change without end, others are deleted and brought back, and each is told of."""
    async with anyio.create_task_group() as group:
        group.start_soon(_flood, here, products, changed, gone)
        yield
        group.cancel_scope.cancel()


async def _flood(here: Stack, products: dict[str, dict[str, Any]], changed: Sequence[str], gone: Sequence[str]) -> None:
    """A turn is not interrupted: what was changed was told of."""
    turn = 0
    while True:
        turn += 1
        with anyio.CancelScope(shield=True):
            renamed, away = changed[turn % len(changed)], gone[turn % len(gone)]
            back = gone[(turn + 1) % len(gone)]
            await anyio.to_thread.run_sync(rename, here, products, renamed, f"Lamp number {turn}")
            await anyio.to_thread.run_sync(here.shop.delete, away)
            await tell(here, renamed, away)
            await anyio.to_thread.run_sync(here.shop.put, here.shop.alias, [(back, products[back])])
            await tell(here, back)
        await anyio.lowlevel.checkpoint()
