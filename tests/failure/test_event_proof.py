"""A run that is proven in a flood of events: what they touched is excused, and only that."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.contract.planted import VECTOR, Index, everything, failed, written
from tests.stack import Stack, stack
from tests.telling import assert_equal, flooded, ready, settled

pytestmark = pytest.mark.anyio

TOUCHED = 6


@asynccontextmanager
async def in_a_flood(url: str, folder: Path) -> AsyncIterator[tuple[Stack, dict[str, dict[str, Any]]]]:
    """A live generation, and events that never stop, of some of its products."""
    async with stack(url, folder) as here:
        products = await ready(here)
        touched = sorted(products)[:TOUCHED]
        async with flooded(here, products, touched[:4], touched[4:]):
            yield here, products
        await settled(here)
        await assert_equal(here)


@pytest.mark.parametrize("strategy", [pytest.param("full", marks=pytest.mark.long), "incremental"])
async def test_it_passes(any_engine_url: str, tmp_path: Path, strategy: str) -> None:
    async with in_a_flood(any_engine_url, tmp_path) as (here, _):
        run = await here.sync(strategy=strategy)
        assert (run.state, run.error) == ("ready", None)


def other_text(index: Index, untouched: list[str]) -> Mapping[str, dict[str, Any] | None]:
    return {untouched[0]: {**index[untouched[0]], "text": "Somebody else's text", "input_hash": "0" * 64}}


def other_vector(index: Index, untouched: list[str]) -> Mapping[str, dict[str, Any] | None]:
    return {one: {**index[one], VECTOR: index[other][VECTOR]} for one, other in pairwise(untouched)}


def one_less(index: Index, untouched: list[str]) -> Mapping[str, dict[str, Any] | None]:
    return {untouched[0]: None}


def one_more(index: Index, untouched: list[str]) -> Mapping[str, dict[str, Any] | None]:
    return {"stranger": index[untouched[0]] | {"source_id": "stranger"}}


FAULTS = {
    "another text": (other_text, "inputs"),
    "other vectors": (other_vector, "vector"),
    "one is missing": (one_less, "ids"),
    "one too many": (one_more, "ids"),
}


@pytest.mark.parametrize(
    ("fault", "check"),
    [pytest.param(*how, id=at, marks=[pytest.mark.long] * (at != "one is missing")) for at, how in FAULTS.items()],
)
async def test_it_still_refuses_what_no_event_did(any_engine_url: str, tmp_path: Path, fault: Any, check: str) -> None:
    async with in_a_flood(any_engine_url, tmp_path) as (here, products):
        live = here.behind_alias()
        run, stopped = await here.stopped_at("green")
        draft = (await here.generations())[0].index
        written(here, draft, fault(await everything(here, draft), sorted(products)[TOUCHED:]))
        stopped.open()
        ended = await here.ended(run.id)
        assert ended.error is not None
        assert (ended.state, ended.error["code"]) == ("failed", "verdict_refused")
        assert check in failed(ended)
        assert here.behind_alias() == live
