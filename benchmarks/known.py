"""A fresh full rebuild with every vector known, beside the engine's own `_reindex` and beside ready bulk bodies.

    python -m benchmarks.known --engine URL [--data FOLDER] [--products 50000] [--rounds 3]

The catalogue is a real one from FOLDER, or generated. It is synchronised once, so that every text is embedded; then
contestants take turns in each round, after one round that is not counted:

| reshelve | a full run of the unchanged catalogue, no vector asked of the model (asserted) |
| reindex | the engine's own `_reindex` of the live generation, vectors with it; left out where a server has none |
| floor | bulk bodies of the same documents that are ready, two in flight |

`loaded` is from the first read to the last acknowledged bulk (the stage `filling` of a run), `done` to `ready` or to
the merged copy. All write into the same mapping, one shard unless declared otherwise, refresh off, no replicas. The
bodies of the floor are kept in memory: 50,000 documents of 256 dims are about 100 MB on Elasticsearch (base64), and
300 MB on OpenSearch (lists).
"""

import argparse
import json
import statistics
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

from benchmarks import sources
from benchmarks.copies import Copies, Seconds
from benchmarks.incremental import filling, ready, seconds
from benchmarks.service import Service, service

NAME = "bench-known"
VECTORS = f"{NAME}-vectors"

Rounds = dict[str, list[Seconds]]


def main() -> None:
    """Read the command line, run, print one JSON document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--products", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    given, types = sources.real(asked.data) if asked.data else sources.generated(asked.products)
    sources.drop(asked.engine, f"{NAME}-")
    count = sources.load(asked.engine, f"{NAME}-source", given, types)
    try:
        with service(asked.engine, ENGINES__MAIN__VECTORS=VECTORS) as running:
            running.declare(NAME, catalogue(real=asked.data is not None))
            documents = ready(running, NAME, "full")["counts"]["loaded"]
            found = anyio.run(rounds, running, asked.engine, asked.rounds)
        print(json.dumps(report(count, documents, found), indent=2))
    finally:
        sources.drop(asked.engine, f"{NAME}-")


def catalogue(real: bool) -> dict[str, Any]:
    """What the service is told to keep in step."""
    spec = {
        "source": {"index": f"{NAME}-source"},
        "target": {"alias": f"{NAME}-live", "replicas": 0},
        "policy": {"keep": 1, "settle_seconds": 0, "max_reject_percent": 10},
    }
    return spec | ({"recipe": sources.RECIPE} if real else {})


async def rounds(running: Service, engine: str, count: int) -> Rounds:
    """Seconds of every contestant in every round."""
    copies = Copies(engine, f"{NAME}-live", f"{NAME}-copy")
    bodies = await copies.bodies()
    contestants: dict[str, Callable[[], Awaitable[Seconds]]] = {
        "reshelve": lambda: ours(running),
        "floor": lambda: copies.sent(bodies),
    }
    if await copies.can_reindex():
        contestants["reindex"] = copies.reindexed
    found: Rounds = {name: [] for name in contestants}
    for number in range(count + 1):
        for name, contestant in contestants.items():
            took = await contestant()
            if number:
                found[name].append(took)
    return found


async def ours(running: Service) -> Seconds:
    """One full run with nothing to embed."""
    run = await anyio.to_thread.run_sync(ready, running, NAME, "full")
    assert run["counts"]["embedded"] == 0, run["counts"]
    return filling(run), seconds(run)


def report(count: int, documents: int, found: Rounds) -> dict[str, Any]:
    """Medians and ratios; a ratio above one means that ours is faster."""
    loaded = {name: statistics.median(one for one, _ in rows) for name, rows in found.items()}
    done = {name: statistics.median(two for _, two in rows) for name, rows in found.items()}
    others = [name for name in found if name != "reshelve"]
    return {
        "products": count,
        "documents": documents,
        "reindex": "measured" if "reindex" in found else "left out: this server has no _reindex",
        "seconds": found,
        "documents_per_second_loaded": {name: round(documents / took) for name, took in loaded.items()},
        "documents_per_second_done": {name: round(documents / took) for name, took in done.items()},
        **{f"reshelve_over_{name}": round(loaded[name] / loaded["reshelve"], 2) for name in others},
        **{f"reshelve_over_{name}_done": round(done[name] / done["reshelve"], 2) for name in others},
    }


if __name__ == "__main__":
    main()
