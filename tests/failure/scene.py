"""What bad days share: a catalogue whose engine is behind a gateway, and waiting for what sends no signal."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx

from app import runs
from app.config import EngineSettings
from app.db import heard
from app.models import Run
from app.sync.sources.index import KEEP_ALIVE
from tests.gateway import Gateway, Hold, gateway
from tests.stack import WAIT, Stack, ask, stack, stock

PRODUCTS = 60

COUNTED, READ = (f'{what}.*"keep_alive":"{KEEP_ALIVE:g}s"' for what in ('"track_total_hits":true', '"sort"'))
"""Searches in the point in time that a run reads; the one that admission looks into is shorter."""

OVER_SECONDS = 10.0
"""So soon a cancel is over."""


@asynccontextmanager
async def through(url: str, folder: Path, **settings: Any) -> AsyncIterator[tuple[Gateway, Stack]]:
    """A stack that reaches its engine through a gateway, with a shop and a catalogue and no worker yet."""
    async with gateway(url) as way:
        engines = {"main": EngineSettings(url=way.url)}
        async with stack(url, folder, works=False, engines=engines, **settings) as here:
            here.shop.fill(stock(PRODUCTS))
            await here.declare()
            yield way, here


async def reached(hold: Hold, seconds: float = WAIT) -> None:
    """The request is here."""
    with anyio.fail_after(seconds):
        await hold.reached.wait()


async def expire(here: Stack, run: Run) -> None:
    """As the database sees it, its worker has said nothing for longer than the lease lasts."""
    async with here.db.writing() as session:
        (await runs.get(session, run.id)).lease_until = 1


async def until(so: Callable[[], object], seconds: float = 60.0) -> None:
    """Look again and again; fails after the deadline."""
    never = anyio.Event()
    with anyio.fail_after(seconds):
        while not so():
            await heard(never, 0.02)


def at_work() -> Counter[str]:
    """What of ours goes on in this process, by name; those of libraries and of the tests have names of their own."""
    names = [one.name or "" for one in anyio.get_running_tasks()]
    return Counter(name for name in names if name.startswith("app."))


async def canceled(stood: Stack, run: Run, seconds: float = OVER_SECONDS) -> Run:
    """Cancel it; the run once it is over, in time."""
    since = time.monotonic()
    await stood.cancel(run.id, "bob")
    ended = await stood.ended(run.id, seconds)
    assert time.monotonic() - since < seconds
    return ended


def assert_canceled(run: Run, who: str = "bob") -> None:
    assert (run.state, run.canceled_by) == ("canceled", who)
    assert run.error == {"code": "canceled", "detail": f"Canceled by {who}."}


def assert_takes_writes(here: Stack) -> None:
    """The live index refuses to create a document for the one reason that it has it, not for a block."""
    (live,) = here.behind_alias()
    (held,) = ask(here.url, "GET", f"/{live}/_search?size=1")["hits"]["hits"]
    answer = httpx.put(f"{here.url}/{live}/_create/{held['_id']}", json={}, timeout=60)
    assert answer.status_code == 409, answer.text
