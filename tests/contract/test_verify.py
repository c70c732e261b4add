"""Verification: each fault is planted on a draft behind our back, and exactly the checks that guard against it fail.

The run stands still between the last write and the first proof. Somebody else changes the index, the run goes on.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.demo.catalogue import tolerant
from app.sync.words import Page
from tests.contract.planted import PRODUCTS, VECTOR, Change, Index, checked, failed, planted, product, refused
from tests.gates import QUICK, Later
from tests.stack import Gate, Stack, stack

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def here(each_engine_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A catalogue whose first generation is live."""
    async with stack(each_engine_url, tmp_path_factory.mktemp("verify"), slices=1) as made:
        hidden = {"name": "a hidden lamp", "visibility": 1}
        made.shop.fill([*map(product, range(PRODUCTS)), ("hidden", hidden)], tolerant())
        await made.declare(recipe=QUICK)
        run = await made.sync()
        assert (run.state, failed(run)) == ("ready", set())
        yield made


# --- faults of the index ---------------------------------------------------------------------------------------------


def one_too_many(found: Index) -> Mapping[str, dict[str, Any] | None]:
    """A document that no source knows."""
    return {"stranger": {**found["p7"], "source_id": "stranger"}}


def one_left_out(found: Index) -> Mapping[str, dict[str, Any] | None]:
    """A product that the recipe leaves out."""
    return {"hidden": {**found["p7"], "source_id": "hidden"}}


def field_added(found: Index) -> Mapping[str, dict[str, Any] | None]:
    """There is a field that nobody declared."""
    return {"p7": {**found["p7"], "password": "secret"}}


def turned_round(found: Index) -> Mapping[str, dict[str, Any] | None]:
    """A vector that is as far from its own text as can be."""
    return {"p7": {**found["p7"], VECTOR: [-number for number in found["p7"][VECTOR]]}}


def rounded(found: Index) -> Mapping[str, dict[str, Any] | None]:
    """A vector that lost the last of its bits."""
    bits = np.float32(found["p7"][VECTOR]).view(np.uint32) & np.uint32(0xFFFF0000)
    return {"p7": {**found["p7"], VECTOR: bits.view(np.float32).tolist()}}


def vectors_exchanged(found: Index) -> Mapping[str, dict[str, Any] | None]:
    """Each of two products has the vector of the other."""
    return {
        "p7": {**found["p7"], VECTOR: found["p8"][VECTOR]},
        "p8": {**found["p8"], VECTOR: found["p7"][VECTOR]},
    }


FAULTS: Mapping[str, tuple[Change, set[str], str]] = {
    "one too many": (one_too_many, {"count", "ids"}, "1 should not be there (stranger)"),
    "one that was left out": (one_left_out, {"count", "ids"}, "1 should not be there (hidden)"),
    "a field added": (field_added, {"fields"}, "p7 differs in password"),
    "a vector rounded": (rounded, {"vector"}, "p7"),
    "two vectors exchanged": (vectors_exchanged, {"vector"}, "p7, p8"),
    "a vector turned round": (turned_round, {"vector", "self_test"}, "p7"),
}

NEAR_ENOUGH = {vectors_exchanged}
"""Whether these still find themselves among ten neighbours is the engine's affair."""


@pytest.mark.parametrize(("change", "checks", "hint"), FAULTS.values(), ids=FAULTS)
async def test_a_fault_of_the_index_is_found(here: Stack, change: Change, checks: set[str], hint: str) -> None:
    run = await refused(here, "green", planted(change))
    assert failed(run) - ({"self_test"} if change in NEAR_ENOUGH else set()) == checks
    assert any(hint in checked(run, name)["detail"] for name in checks)


# --- faults of what is between ---------------------------------------------------------------------------------------


class Answered(Later):
    """After some calls that pass, one gets another answer; it stops there like any gate."""

    def __init__(self, passing: int, answer: Callable[..., Any]) -> None:
        super().__init__(passing)
        self._left, self._answer, self.lies = passing, answer, 0

    async def call(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """The method's answer, or the other one."""
        self._left -= 1
        await self.passed()
        if self._left != -1:
            return await method(*args, **named)
        self.lies += 1
        return self._answer(*args, **named)


async def nothing(here: Stack, draft: str) -> None:
    """Nobody does anything to the index."""


async def test_a_page_that_nobody_got_is_found(each_engine_url: str, tmp_path: Path) -> None:
    async with stack(each_engine_url, tmp_path, slices=1) as here:
        here.shop.fill(map(product, range(PRODUCTS)), tolerant())
        await here.declare(recipe=QUICK)
        assert (await here.sync()).state == "ready"
        here.shop.fill(map(product, range(240)), tolerant())
        short = Answered(1, lambda _pit, part, *_: Page(part, [], None, 0))
        run = await refused(here, "page", nothing, short)
        assert failed(run) == {"read", "count"}
        assert "of 240 in the point in time" in checked(run, "read")["detail"]


LIES: Mapping[str, tuple[str, Any, set[str], str]] = {
    "neighbours that are never found": ("nearest", [], {"self_test"}, "Not found by their own text: p"),
    "a shard that is nowhere": ("green", "red", {"health"}, "A shard is not assigned."),
}


@pytest.mark.parametrize(("method", "lie", "checks", "hint"), LIES.values(), ids=LIES)
async def test_an_index_that_answers_wrongly_is_found(
    here: Stack, method: str, lie: Any, checks: set[str], hint: str
) -> None:
    class Lying(Gate):
        async def call(self, _method: Callable[..., Any], *args: Any, **named: Any) -> Any:
            await self.passed()
            return lie

    run = await refused(here, method, nothing, Lying())
    assert failed(run) == checks
    assert any(hint in checked(run, name)["detail"] for name in checks)


async def test_an_engine_that_counts_late_is_asked_again(here: Stack) -> None:
    late = Answered(1, lambda _index: {"documents": 0})
    late.open()
    here.gate("search_stats", late)
    run = await here.ended((await here.queued()).id)
    here.connections.gates.clear()
    assert (run.state, run.error) == ("ready", None)
    assert checked(run, "count")["found"] == PRODUCTS
    assert late.lies == 1


async def test_after_all_that_the_next_run_is_ready(here: Stack) -> None:
    run = await here.sync()
    assert (run.state, run.error, failed(run)) == ("ready", None, set())
    live, before = here.behind_alias(), here.indices()
    assert live == [(await here.generations())[0].index]
    assert len(before) == 3, "the drafts that were refused are gone"
