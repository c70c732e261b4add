"""What a change costs: an incremental run beside a fresh full one with every vector known, at growing sizes.

    python -m benchmarks.incremental --engine URL [--sizes 10000 30000 100000] [--rounds 3]
    python -m benchmarks.incremental --engine URL --long-size 1000000

One product of a hundred changes before each incremental run, half of them in price only. Seconds are those from the
request to `ready`; `settle_seconds` is 0, so that no waiting on purpose is among them. Both merge as the policy says.

With `--long-size`, one incremental run of a catalogue of that size and nothing else, without merging: whether clone and
promotion take seconds, whatever the size.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from app.demo.catalogue import products
from benchmarks import sources
from benchmarks.service import Service, service

VECTORS = "bench-vectors"
"""Kept vectors of this benchmark alone, dropped before and after."""

EVERY = 100
"""One product of so many changes."""


def main() -> None:
    """Print one JSON document for each size, and all of them in the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long-size", type=int)
    asked = parser.parse_args()
    sources.drop(asked.engine, VECTORS)
    with service(asked.engine, ENGINES__MAIN__VECTORS=VECTORS) as running:
        if asked.long_size:
            found = [long(running, asked.engine, asked.long_size)]
        else:
            found = [measured(running, asked.engine, size, asked.rounds) for size in asked.sizes]
    sources.drop(asked.engine, VECTORS)
    print(json.dumps(found, indent=2))


def declared(running: Service, engine: str, size: int, merge: str) -> str:
    """A catalogue of that size; its name."""
    name = f"bench-{size}"
    sources.drop(engine, f"{name}-")
    sources.load(engine, f"{name}-source", *sources.generated(size))
    target = {"alias": f"{name}-live", "replicas": 0, "force_merge": merge}
    policy = {"settle_seconds": 0, "keep": 1}
    running.declare(name, {"source": {"index": f"{name}-source"}, "target": target, "policy": policy})
    return name


def long(running: Service, engine: str, size: int) -> dict[str, Any]:
    """One size, one change of one product in a hundred, no merge."""
    name = declared(running, engine, size, "never")
    first = ready(running, name, "full")
    sources.change(engine, f"{name}-source", changes(size, 0))
    run = ready(running, name, "incremental")
    stages = {stage["stage"]: stage for stage in run["stages"]}
    sources.drop(engine, f"{name}-")
    (clone,) = (stage["steps"]["clone"]["seconds"] for stage in stages.values() if "clone" in stage["steps"])
    return {
        "products": size,
        "first_seconds": seconds(first),
        "incremental_seconds": seconds(run),
        "clone_seconds": clone,
        "promoting_seconds": stages["promoting"]["seconds"],
        "stages": {stage: found["seconds"] for stage, found in stages.items()},
        "counts": run["counts"],
    }


def measured(running: Service, engine: str, size: int, rounds: int) -> dict[str, Any]:
    """One size: medians of the rounds."""
    name = declared(running, engine, size, "full")
    first = ready(running, name, "full")
    known, changed, same = [], [], []
    with running.watched() as seen:
        for number in range(rounds):
            known.append(ready(running, name, "full"))
            sources.change(engine, f"{name}-source", changes(size, number))
            changed.append(ready(running, name, "incremental"))
            same.append(ready(running, name, "incremental"))
    sources.drop(engine, f"{name}-")
    assert all(run["counts"]["embedded"] == 0 for run in (*known, *same))
    full, delta, nothing = (statistics.median(map(seconds, runs)) for runs in (known, changed, same))
    result = {
        "products": size,
        "first_seconds": seconds(first),
        "full_known_seconds": full,
        "incremental_seconds": delta,
        "full_over_incremental": round(full / delta, 2),
        "unchanged_seconds": nothing,
        "compared_per_second": round(size / statistics.median(filling(run) for run in same)),
        "rss_peak_mib": round(seen.peak_mib, 1),
        "stages": {stage["stage"]: stage["seconds"] for stage in changed[-1]["stages"]},
        "steps": next(stage["steps"] for stage in changed[-1]["stages"] if stage["stage"] == "filling"),
    }
    print(json.dumps(result), flush=True)
    return result


def ready(running: Service, name: str, strategy: str) -> dict[str, Any]:
    """A run that is ready, or the end of the benchmark."""
    run = running.sync(name, strategy)
    if run["state"] != "ready" or run["strategy"] != strategy:
        raise SystemExit(json.dumps(run, indent=2))
    return run


def changes(size: int, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """One product of a hundred in another form: half of them cheaper, half of them with another name."""
    for place, (product, source) in enumerate(products(size)):
        if place % EVERY == number % EVERY and source.get("name"):
            if place // EVERY % 2:
                yield product, {**source, "price_0_1": 0.01 + number}
            else:
                yield product, {**source, "name": f"{source['name']} no. {number}", "price_0_1": 0.01}


def seconds(run: dict[str, Any]) -> float:
    """From the request to `ready`."""
    asked, done = (datetime.fromisoformat(run[name]) for name in ("requested_at", "finished_at"))
    return round((done - asked).total_seconds(), 2)


def filling(run: dict[str, Any]) -> float:
    """Seconds in which everything was read and compared."""
    return float(next(stage["seconds"] for stage in run["stages"] if stage["stage"] == "filling"))


if __name__ == "__main__":
    main()
