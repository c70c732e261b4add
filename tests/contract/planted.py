"""Faults planted on a draft behind our back: a run stands still after its last write, somebody else changes the index.

Bulk writes are over when a port's `green` is called: the draft is sealed, and accepts writes by its own name again.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import orjson

from app.models import Run
from tests.stack import Gate, Stack, ask

PRODUCTS = 30
"""No more than are sampled: each of them is looked at."""

VECTOR = "embedding"
Strategy = Literal["full", "incremental"]
Index = dict[str, dict[str, Any]]
Change = Callable[[Index], Mapping[str, dict[str, Any] | None]]
"""What somebody writes, given all documents of the draft with their vectors; None deletes."""

Happens = Callable[[Stack, str], Awaitable[None]]
"""Something that happens to an index."""


def product(number: int) -> tuple[str, dict[str, Any]]:
    """A product that has a text of its own."""
    words = ("amber", "brass", "cobalt", "dusk", "ember", "fern", "glass", "husk", "iron", "jade")
    name = f"{words[number % 10]} lamp {number * 7919} of {words[number // 10 % 10]}"
    return f"p{number}", {"name": name, "sku": f"S-{number}", "price": number + 0.5}


async def everything(here: Stack, index: str) -> Index:
    """All documents of an index, with their vectors."""
    ask(here.url, "POST", f"/{index}/_refresh")
    found = ask(here.url, "GET", f"/{index}/_search?size=1000")["hits"]["hits"]
    vectors = await (await here.connections.engine("main")).vectors(index, [hit["_id"] for hit in found])
    return {hit["_id"]: {**hit["_source"], VECTOR: vectors[hit["_id"]].tolist()} for hit in found}


def written(here: Stack, index: str, changed: Mapping[str, dict[str, Any] | None]) -> None:
    """Somebody writes to an index."""
    lines: list[bytes] = []
    for name, document in changed.items():
        act = "delete" if document is None else "index"
        lines += [orjson.dumps({act: {"_id": name}})] + ([] if document is None else [orjson.dumps(document)])
    answer = ask(here.url, "POST", f"/{index}/_bulk?refresh=true", b"\n".join(lines) + b"\n")
    assert not answer["errors"], answer


def planted(change: Change) -> Happens:
    """The fault that *change* makes."""

    async def happens(here: Stack, draft: str) -> None:
        written(here, draft, change(await everything(here, draft)))

    return happens


def failed(run: Run) -> set[str]:
    """The checks that did not pass."""
    assert run.verdict is not None
    return {check["check"] for check in run.verdict["checks"] if not check["passed"]}


def checked(run: Run, name: str) -> Mapping[str, Any]:
    """One check of a verdict."""
    assert run.verdict is not None
    return dict(next(check for check in run.verdict["checks"] if check["check"] == name))


async def refused(
    here: Stack, method: str, happens: Happens, gate: Gate | None = None, strategy: Strategy = "full"
) -> Run:
    """A run that was stopped before a port's *method*, and its end; readers see nothing of it."""
    live = here.behind_alias()
    before = await everything(here, here.alias)
    run, stopped = await here.stopped_at(method, gate, strategy)
    draft = (await here.generations())[0]
    try:
        await happens(here, draft.index)
    finally:
        stopped.open()
        run = await here.ended(run.id)
        here.connections.gates.clear()
    assert run.error is not None
    assert (run.state, run.error["code"], run.strategy) == ("failed", "verdict_refused", strategy)
    assert all(f"{name}: " in run.error["detail"] for name in failed(run))
    assert here.behind_alias() == live
    assert await everything(here, here.alias) == before
    assert draft.index in here.indices(), "it stays to be looked at"
    return run
