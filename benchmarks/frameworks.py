"""First sync, unchanged sync, and documents lost in the target: beside LlamaIndex's and LangChain's own ways to sync.

    python -m benchmarks.frameworks --engine URL [--data FOLDER] [--products 20000] [--rounds 3] [--python PATH]

The engine is an Elasticsearch. The frameworks live in an environment of their own, made with `uv` in a temporary folder
from `frameworks.requirements.txt`, or named by its interpreter with `--python`; `framework_peers` says how they are
used. All contestants take turns in every round, in fresh processes that have synchronised a few products before; every
round of ours starts without any kept vector. `loaded` is from the first read to the last acknowledged write, `done` to
the merged index, and for us to `ready`: a verdict and the switch are in it. The unchanged sync of ours is incremental,
from the request to `ready`, and it reads the source and the target (`reshelve_compared_per_second` is over that part
alone). The others read the source and their own memory.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks import sources
from benchmarks.fresh import fresh
from benchmarks.incremental import filling, ready, seconds
from benchmarks.service import ROOT

NAME = "bench-frameworks"
SHOP = f"{NAME}-shop"
LIVE = f"{SHOP}-live"
REQUIREMENTS = Path(__file__).with_name("frameworks.requirements.txt")
FRAMEWORKS = ("llamaindex", "langchain")
LOST = 10

Found = dict[str, Any]


def main() -> None:
    """Read the command line, run, print one JSON document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--products", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", help="interpreter of an environment with the frameworks; one is made without it")
    asked = parser.parse_args()
    sources.drop(asked.engine, f"{NAME}-")
    given = sources.real(asked.data) if asked.data else sources.generated(asked.products)
    count = sources.load(asked.engine, f"{NAME}-source", *given)
    try:
        with interpreter(asked.python) as python:
            rounds = [one_round(asked.engine, python) for _ in range(asked.rounds)]
        print(json.dumps(report(count, rounds), indent=2))
    finally:
        sources.drop(asked.engine, f"{NAME}-")


@contextmanager
def interpreter(given: str | None) -> Iterator[str]:
    """The frameworks' interpreter."""
    if given:
        yield given
        return
    with TemporaryDirectory() as folder:
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, folder, "--allow-existing"], check=True)
        python = f"{folder}/bin/python"
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, "-r", REQUIREMENTS], check=True)
        yield python


def one_round(engine: str, python: str) -> dict[str, Found]:
    """Every contestant once."""
    return {name: theirs(engine, python, name) for name in FRAMEWORKS} | {"reshelve": ours(engine)}


def theirs(engine: str, python: str, name: str) -> Found:
    """A framework's three syncs, in a process of its own."""
    command = [python, "-m", "benchmarks.framework_peers", name, "--engine", engine]
    indices = ["--source", f"{NAME}-source", "--target", f"{NAME}-{name}"]
    said = subprocess.run([*command, *indices], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found: Found = json.loads(said.stdout)
    return found


def ours(engine: str) -> Found:
    """The same three syncs by a service that has no vector yet."""
    with fresh(engine, SHOP, f"{NAME}-source") as running, httpx.Client(base_url=engine, timeout=120) as client:
        run = ready(running, SHOP, "full")
        assert run["counts"]["embedded"] > 0.9 * run["counts"]["loaded"], run["counts"]
        first = figures(run, filling(run)) | {"done": seconds(run), "in_target": count(client)}
        run = ready(running, SHOP, "incremental")
        unchanged = figures(run, seconds(run)) | {"filling": filling(run), "in_target": count(client)}
        lose(client)
        short = count(client)
        run = ready(running, SHOP, "incremental")
        after = figures(run, seconds(run)) | {"in_target_before": short, "in_target": count(client)}
    return {"first": first, "unchanged": unchanged, "after_loss": after}


def figures(run: dict[str, Any], took: float) -> Found:
    """What a run answered, and its seconds."""
    return {"seconds": took, "answer": {name: value for name, value in run["counts"].items() if value}}


def count(client: httpx.Client) -> int:
    """Documents that a search can see."""
    client.post(f"/{LIVE}/_refresh").raise_for_status()
    return int(client.get(f"/{LIVE}/_count").json()["count"])


def lose(client: httpx.Client) -> None:
    """Delete some documents behind the service's back."""
    hits = client.get(f"/{LIVE}/_search", params={"size": LOST, "_source": "false"}).json()["hits"]["hits"]
    for hit in hits:
        client.delete(f"/{hit['_index']}/_doc/{hit['_id']}").raise_for_status()


def report(products: int, rounds: list[dict[str, Found]]) -> dict[str, Any]:
    """Medians and ratios, and what each said and did after the loss; a ratio above one means that ours is faster."""
    columns = {"loaded": ("first", "seconds"), "done": ("first", "done"), "unchanged": ("unchanged", "seconds")}
    medians = {
        column: {name: statistics.median(one[name][sync][key] for one in rounds) for name in (*FRAMEWORKS, "reshelve")}
        for column, (sync, key) in columns.items()
    }
    compared = statistics.median(one["reshelve"]["unchanged"]["filling"] for one in rounds)
    return {
        "products": products,
        "reshelve_compared_per_second": round(products / compared),
        "median_seconds": medians,
        "products_per_second": {
            column: {name: round(products / took) for name, took in row.items()} for column, row in medians.items()
        },
        "reshelve_over": {
            column: {name: round(row[name] / row["reshelve"], 2) for name in FRAMEWORKS}
            for column, row in medians.items()
        },
        "after_loss": {name: found["after_loss"] for name, found in rounds[-1].items()},
        "rounds": rounds,
    }


if __name__ == "__main__":
    main()
