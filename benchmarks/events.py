"""Single changes: how fast they are accepted, how soon searches find them, what a large backlog takes.

    python -m benchmarks.events --engine URL [--database URL] [--products 100000] [--parts accepting,searchable,backlog]

- *accepting*: requests of `--batch` events at `--rate` events a second, all of products that did change, while the
  service applies what it can; then the same as fast as four senders can. `answer` is the time of the HTTP answer.
- *searchable*: 100 events a second. An event is posted, and a reader searches by id, many times a second, until the new
  price is found: once while nothing else goes on, once from the start to the end of a full run over all products.
  Deletions are told apart, less the settle time.
- *backlog*: nothing is applied while 100,000 events come, then all of it; the largest size of the process meanwhile.

The service is a process of its own, on SQLite unless a database is named (an empty one, Postgres). Sender and reader
share the machine with it and the engine; what they need is part of the figures.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import Any

import anyio

from benchmarks import sources
from benchmarks.service import ROOT, Service, service
from benchmarks.telling import Reader, Shop, paced, quantiles, shop

RATE = 100
"""Events a second while searching."""

AT_ONCE = 5
"""Events of one request while searching."""

SETTLE = 2.0
IDLE_SECONDS = 60.0
BACKLOG = 100_000


def main() -> None:
    """Run the parts and print one JSON document; exit 1 when a promise is broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", required=True)
    parser.add_argument("--database")
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--parts", default="accepting,searchable,backlog")
    asked = parser.parse_args()
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    name = f"bench-events-{int(time.time())}"
    try:
        with started(asked, name) as running:
            result = anyio.run(measured, asked, name, running)
    finally:
        sources.drop(asked.engine, name)
    print(json.dumps({"products": asked.products, "database": kind_of(asked), **result}, indent=2))
    sys.exit(0 if all(result["kept"].values()) else 1)


def kind_of(asked: argparse.Namespace) -> str:
    """Which database it was."""
    return "postgres" if asked.database else "sqlite"


@contextmanager
def started(asked: argparse.Namespace, name: str) -> Iterator[Service]:
    """A running service whose catalogue has all products."""
    settings = {"ENGINES__MAIN__VECTORS": f"{name}-vectors", "EVENTS_MOST": str(2 * BACKLOG)}
    if asked.database:
        settings["DATABASE_URL"] = asked.database
        upgraded = {**os.environ, "RESHELVE_DATABASE_URL": asked.database}
        subprocess.run([sys.executable, "-m", "app", "db", "upgrade"], cwd=ROOT, env=upgraded, check=True)
    sources.load(asked.engine, f"{name}-shop", *sources.generated(asked.products))
    with service(asked.engine, **settings) as running:
        running.declare(
            name,
            {
                "source": {"index": f"{name}-shop"},
                "target": {"alias": f"{name}-live", "replicas": 0, "refresh_interval": "1s"},
                "recipe": sources.RECIPE,
                "policy": {"settle_seconds": SETTLE, "keep": 1, "rollback_window": 0, "shrink": {"documents": 1000}},
            },
        )
        first = running.sync(name)
        assert first["state"] == "ready", first["error"]
        yield running


async def measured(asked: argparse.Namespace, name: str, running: Service) -> dict[str, Any]:
    """The parts that were asked for, one after the other."""
    found: dict[str, Any] = {}
    async with shop(asked.engine, running.url, f"{name}-shop", name) as here:
        for part in asked.parts.split(","):
            found[part] = await PARTS[part](asked, here, running)
            await here.emptied()
    return {**found, "kept": promises(found, bool(asked.database))}


def promises(found: Mapping[str, Any], on_postgres: bool) -> dict[str, bool]:
    """What is promised, as far as it was measured, and whether it was kept."""
    kept = {}
    if "accepting" in found:
        paced_, fast = found["accepting"]["paced"], found["accepting"]["fast"]
        kept["accepted"] = max(paced_["accepted_a_second"], fast["accepted_a_second"]) >= (1000 if on_postgres else 300)
        if on_postgres:
            kept["answer"] = paced_["answer"]["p99_ms"] < 50
            kept["applied"] = paced_["applied_a_second"] >= 500
    if "searchable" in found:
        kept["idle"] = found["searchable"]["idle"]["p95_ms"] < 2000
        kept["while_rebuilding"] = found["searchable"]["while_rebuilding"]["p95_ms"] < 3000
    return kept


# --- accepting -------------------------------------------------------------------------------------------------------


async def accepting(asked: argparse.Namespace, here: Shop, _running: Service) -> dict[str, Any]:
    """At a rate, then as fast as it goes."""
    ids = await here.ids(f"{here.name}-live", int(asked.rate * asked.seconds))
    return {
        "events_a_request": asked.batch,
        "paced": await offered(asked, here, ids),
        "fast": await as_fast_as_it_goes(asked, here, ids),
    }


def batches(ids: list[str], size: int) -> Iterator[list[str]]:
    """The products again and again, some at a time."""
    for place in count(step=size):
        start = place % max(len(ids) - size, 1)
        yield ids[start : start + size]


async def offered(asked: argparse.Namespace, here: Shop, ids: list[str]) -> dict[str, Any]:
    """So many events a second, whatever the service does with them."""
    await here.reprice(ids)
    some, here.answers = batches(ids, asked.batch), []

    async def act() -> None:
        await here.tell(next(some))

    async with counting(here) as counted:
        await paced(asked.rate / asked.batch, asked.seconds, act)
    return {"offered_a_second": asked.rate, **figures(here, counted, asked.batch)}


async def as_fast_as_it_goes(asked: argparse.Namespace, here: Shop, ids: list[str]) -> dict[str, Any]:
    """Four senders that never pause."""
    await here.emptied()
    await here.reprice(ids)
    some, here.answers, end = batches(ids, asked.batch), [], time.perf_counter() + asked.seconds / 2

    async def sender() -> None:
        while time.perf_counter() < end:
            await here.tell(next(some))

    async with counting(here) as counted, anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(sender)
    return figures(here, counted, asked.batch)


class Counting:
    """What was applied from its beginning to its end."""

    seconds = applied = 0.0


@asynccontextmanager
async def counting(here: Shop) -> AsyncIterator[Counting]:
    """Count what is applied until the block ends."""
    made, before, since = Counting(), await here.processed(), time.perf_counter()
    yield made
    made.seconds = time.perf_counter() - since
    made.applied = await here.processed() - before


def figures(here: Shop, counted: Counting, batch: int) -> dict[str, Any]:
    """Of a time in which events were accepted."""
    return {
        "accepted_a_second": round(len(here.answers) * batch / counted.seconds),
        "applied_a_second": round(counted.applied / counted.seconds),
        "answer": quantiles(here.answers),
    }


# --- searchable ------------------------------------------------------------------------------------------------------


async def searchable(asked: argparse.Namespace, here: Shop, running: Service) -> dict[str, Any]:
    """Idle, while a full run goes on, and deletions."""
    ids = await here.ids(f"{here.name}-live", asked.products)
    deleted, ids = ids[:400], ids[400:]
    turns = batches(ids, AT_ONCE)
    idle = await followed(here, turns, IDLE_SECONDS)
    run: dict[str, Any] = {}

    async def rebuild() -> None:
        run.update(await anyio.to_thread.run_sync(running.sync, here.name))

    async with anyio.create_task_group() as group:
        group.start_soon(rebuild)
        busy = await followed(here, turns, 1800, lambda: bool(run))
    assert run["state"] == "ready", run["error"]
    stages = {stage["stage"]: round(stage["seconds"], 1) for stage in run["stages"]}
    return {
        "events_a_second": RATE,
        "idle": idle,
        "while_rebuilding": {**busy, "run_stages": stages},
        "deletions": await gone(here, deleted),
    }


async def followed(here: Shop, turns: Iterator[list[str]], seconds: float, stop: Any = lambda: False) -> dict[str, Any]:
    """Changes at a rate, each of them followed until a search finds it."""
    reader, stopped = Reader(here.engine, f"{here.name}-live"), anyio.Event()
    here.answers = []

    async def act() -> None:
        wanted = await here.change(some := next(turns))
        reader.seek(dict(wanted), time.perf_counter())
        await here.tell(some)

    async with anyio.create_task_group() as group:
        group.start_soon(reader.run, stopped)
        await paced(RATE / AT_ONCE, seconds, act, stop)
        stopped.set()
    return {**quantiles(reader.seconds), "never_found": reader.left, "answer": quantiles(here.answers)}


async def gone(here: Shop, ids: list[str]) -> dict[str, Any]:
    """Deletions, followed until no search finds them; the settle time is not counted."""
    reader, stopped = Reader(here.engine, f"{here.name}-live"), anyio.Event()
    turns = batches(ids, AT_ONCE)

    async def act() -> None:
        await here.delete(some := next(turns))
        reader.seek(dict.fromkeys(some), time.perf_counter())
        await here.tell(some, "delete")

    async with anyio.create_task_group() as group:
        group.start_soon(reader.run, stopped)
        await paced(4, len(ids) / AT_ONCE / 4 - 0.5, act)
        stopped.set()
    return {"settle_seconds": SETTLE, "never_found": reader.left, **quantiles(one - SETTLE for one in reader.seconds)}


# --- backlog ---------------------------------------------------------------------------------------------------------


async def backlog(_asked: argparse.Namespace, here: Shop, running: Service) -> dict[str, Any]:
    """Memory while events gather, and while they are applied."""
    ids = (await here.ids(f"{here.name}-live", BACKLOG))[:BACKLOG]
    small = await gathered(here, running, ids[:1000])
    return {"events": len(ids), "at_1000": small, "at_all": await gathered(here, running, ids)}


async def gathered(here: Shop, running: Service, ids: list[str]) -> dict[str, Any]:
    """So many events while nothing is applied, then all of them."""
    path = f"/api/v1/catalogues/{here.name}"
    await here.reprice(ids)
    (await here.service.patch(path, json={"paused": True})).raise_for_status()
    with running.watched() as coming:
        for start in range(0, len(ids), 1000):
            await here.tell(ids[start : start + 1000])
    waiting = (await here.lag())["pending"]
    (await here.service.patch(path, json={"paused": False})).raise_for_status()
    with running.watched() as going:
        seconds = await here.emptied(1200)
    return {
        "waiting": waiting,
        "rss_peak_accepting_mib": round(coming.peak_mib, 1),
        "rss_peak_applying_mib": round(going.peak_mib, 1),
        "applied_a_second": round(waiting / seconds),
        "health_p99_ms": round(going.health_ms(0.99), 1),
    }


PARTS = {"accepting": accepting, "searchable": searchable, "backlog": backlog}

if __name__ == "__main__":
    main()
