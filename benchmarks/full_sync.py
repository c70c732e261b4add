"""Full sync of a real catalogue, next to the script people write, the same tuned by hand, and the floor.

    python -m benchmarks.full_sync --engine URL --data FOLDER [--rounds 3]

All contestants read the same source with the same embedder (local, 256 dims) into the same kind of mapping on the
same server, one after the other, in every round; figures are medians, and what counts is their ratio within this run.
The service starts every round without a kept vector: all embed everything.
"""

import argparse
import json
import statistics
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import wordllama

from benchmarks import peers, sources
from benchmarks.fresh import fresh

NAME = "bench-full"
SOURCE = f"{NAME}-source"


def main() -> None:
    """Read the command line, run, print one JSON document and a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    count = sources.load(asked.engine, SOURCE, *sources.real(asked.data))
    folder = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    setting = peers.Setting(asked.engine, SOURCE, f"{NAME}-target", 256, model)
    print(json.dumps(report(count, anyio.run(rounds, setting, asked.rounds)), indent=2))
    sources.drop(asked.engine, f"{NAME}-")


async def rounds(setting: peers.Setting, count: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds to loaded and to done, by contestant and round; the engine is warmed before."""
    bodies = await peers.ready_bodies(setting)
    found: dict[str, list[tuple[float, float]]] = {"script": [], "tuned": [], "floor": [], "reshelve": []}
    await emptied(setting, lambda: peers.raw(setting, bodies))
    await emptied(setting, lambda: peers.raw(setting, bodies))
    for _ in range(count):
        found["script"].append(await emptied(setting, lambda: peers.naive(setting)))
        found["reshelve"].append(await anyio.to_thread.run_sync(ours, setting.url))
        found["tuned"].append(await emptied(setting, lambda: peers.tuned(setting)))
        found["floor"].append(await emptied(setting, lambda: peers.raw(setting, bodies)))
    return found


async def emptied(
    setting: peers.Setting, contestant: Callable[[], Awaitable[tuple[float, float]]]
) -> tuple[float, float]:
    """One contestant on an empty target, dropped afterwards."""
    async with httpx.AsyncClient(base_url=setting.url, timeout=120) as client:
        await peers.fresh_target(client, setting)
        seconds = await contestant()
        await client.delete(f"/{setting.target}")
    return seconds


def ours(engine: str) -> tuple[float, float]:
    """A first run: seconds from the first read to the last acknowledged bulk, and from start to ready."""
    with fresh(engine, NAME, SOURCE) as running:
        run = running.sync(NAME)
    if run["state"] != "ready":
        raise SystemExit(json.dumps(run, indent=2))
    stages = {stage["stage"]: stage for stage in run["stages"]}
    print(
        json.dumps({name: stage["seconds"] for name, stage in stages.items()} | {"steps": stages["filling"]["steps"]})
    )
    return stages["filling"]["seconds"], sum(stage["seconds"] for stage in stages.values())


def report(count: int, found: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Medians and ratios."""
    loaded = {name: statistics.median(one for one, _ in rows) for name, rows in found.items()}
    done = {name: statistics.median(two for _, two in rows) for name, rows in found.items()}
    return {
        "documents": count,
        "seconds": found,
        "documents_per_second_loaded": {name: round(count / seconds) for name, seconds in loaded.items()},
        "documents_per_second_done": {name: round(count / seconds) for name, seconds in done.items()},
        "reshelve_over_script": round(loaded["script"] / loaded["reshelve"], 2),
        "reshelve_over_tuned": round(loaded["tuned"] / loaded["reshelve"], 2),
        "reshelve_over_floor": round(loaded["floor"] / loaded["reshelve"], 2),
        "reshelve_over_script_done": round(done["script"] / done["reshelve"], 2),
    }


if __name__ == "__main__":
    main()
