"""What a green verdict must never cover: each fault, in a full and in an incremental run, is named by its check.

Where a fault is of a product that the run did not write, of a clone that is, nothing but the source and the store can
tell; so the products that are changed here are others than those that are spoilt.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
import pytest

from app.demo.catalogue import tolerant
from tests.contract.planted import (
    PRODUCTS,
    VECTOR,
    Change,
    Index,
    Strategy,
    checked,
    everything,
    failed,
    planted,
    product,
    refused,
    written,
)
from tests.gates import QUICK
from tests.stack import Stack, ask, stack

pytestmark = pytest.mark.anyio

OLDEST, GONE, CHANGED = "p0", "p1", "p2"
"""Deleted before the live generation, since it, and changed since it."""

Changed = Mapping[str, dict[str, Any] | None]


@pytest.fixture(scope="module", params=["elasticsearch9", pytest.param("opensearch3", marks=pytest.mark.long)])
async def here(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A catalogue with two generations; since the live one the source lost a product and changed another."""
    url = request.getfixturevalue(request.param)
    async with stack(url, tmp_path_factory.mktemp("planted"), slices=1) as made:
        made.shop.fill(map(product, range(PRODUCTS)), tolerant())
        await made.declare(recipe=QUICK, policy={"settle_seconds": 0})
        assert (await made.sync()).error is None
        lose(made, OLDEST)
        assert (await made.sync()).error is None
        lose(made, GONE)
        made.shop.put(made.shop.indices[-1], [(CHANGED, {**product(2)[1], "price": 99.5})])
        yield made


def lose(here: Stack, name: str) -> None:
    """The shop deletes a product."""
    ask(here.url, "DELETE", f"/{here.shop.indices[-1]}/_doc/{name}?refresh=true")


# --- the faults ------------------------------------------------------------------------------------------------------


def lost(found: Index) -> Changed:
    """A document is not there."""
    return {"p7": None}


def doubled(found: Index) -> Changed:
    """A product stands under two ids."""
    return {"p7-copy": found["p7"]}


def dearer(found: Index) -> Changed:
    """The price is another one."""
    return {"p7": {**found["p7"], "price": 1.0}}


def text_of_another(found: Index) -> Changed:
    """Text, its hash and its vector are those of another product."""
    taken = ("text", "text_hash", VECTOR)
    return {"p7": {**found["p7"], **{name: found["p8"][name] for name in taken}}}


def bytes_swapped(found: Index) -> Changed:
    """Vectors whose numbers were read in the wrong byte order, of those that an engine would store."""
    return revectored(found, _swapped)


def _swapped(vector: Any) -> Any:
    swapped = np.float32(vector).byteswap()
    return np.where(np.isfinite(swapped) & (abs(swapped) < 1e3), swapped, 1)


def of_another_model(found: Index) -> Changed:
    """Vectors of a model with as many dims; only the numbers tell."""
    return revectored(found, lambda vector: np.roll(vector, 5))


def stamped_by_another_model(found: Index) -> Changed:
    """A document says that another model made its vector."""
    return {"p7": {**found["p7"], "embed_model_alias": "another"}}


def without_vector(found: Index) -> Changed:
    """A document that no search by vector can find."""
    return {"p7": {name: value for name, value in found["p7"].items() if name != VECTOR}}


def right_by_accident(found: Index) -> Changed:
    """One lost, one too many: as many documents as there should be."""
    return {"p7": None, "stranger": {**found["p7"], "source_id": "stranger"}}


def revectored(found: Index, act: Any) -> Changed:
    """All documents with other vectors."""
    vectors = {name: act(one[VECTOR]) for name, one in found.items()}
    return {
        name: {**one, VECTOR: (vectors[name] / np.linalg.norm(vectors[name])).tolist()} for name, one in found.items()
    }


FAULTS: Mapping[str, tuple[Change, set[str], tuple[str, str]]] = {
    "a lost document": (lost, {"count", "ids", "fields", "vector", "self_test"}, ("ids", "1 documents are missing")),
    "a document twice under two ids": (doubled, {"count", "duplicates"}, ("duplicates", "1 products")),
    "a wrong price": (dearer, {"fields"}, ("fields", "p7 differs in price")),
    "a text of another product": (text_of_another, {"fields", "vector"}, ("fields", "p7 differs in text, text_hash")),
    "vectors in the wrong byte order": (bytes_swapped, {"vector"}, ("vector", "byte order")),
    "vectors of another model": (of_another_model, {"vector"}, ("vector", "model")),
    "a stamp of another model": (
        stamped_by_another_model,
        {"stamps", "fields"},
        ("stamps", "1 do not name hashing/words"),
    ),
    "a vector missing": (without_vector, {"stamps", "vector", "self_test"}, ("stamps", "1 documents have no vector")),
    "a count right by accident": (
        right_by_accident,
        {"ids", "fields", "vector", "self_test"},
        ("ids", "1 documents are missing, 1 should not be there (stranger)"),
    ),
}

FOUND_OR_NOT = {"self_test"}
"""Whether a text finds what has another vector than its own among ten neighbours is the engine's affair."""


BY_SAMPLE = {"fields", "vector", "self_test"}
"""What was lost of a clone is not among the documents that are drawn from it: only the ids tell."""


@pytest.mark.parametrize("strategy", ["full", "incremental"])
@pytest.mark.parametrize(("change", "checks", "told"), FAULTS.values(), ids=FAULTS)
async def test_a_fault_is_refused_and_named(
    here: Stack, change: Change, checks: set[str], told: tuple[str, str], strategy: Strategy
) -> None:
    run = await refused(here, "green", planted(change), strategy=strategy)
    if "ids" in checks and strategy == "incremental":
        checks = checks - BY_SAMPLE
    assert failed(run) - (set() if "self_test" in checks else FOUND_OR_NOT) == checks
    name, detail = told
    assert detail in checked(run, name)["detail"]


# --- what should have gone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["full", "incremental"])
async def test_a_deletion_that_was_not_carried_is_refused(here: Stack, strategy: Strategy) -> None:
    async def happens(here: Stack, draft: str) -> None:
        assert GONE not in await everything(here, draft)
        written(here, draft, {GONE: (await everything(here, here.alias))[GONE]})

    run = await refused(here, "green", happens, strategy=strategy)
    assert failed(run) == {"count", "ids"}
    assert f"1 should not be there ({GONE})" in checked(run, "ids")["detail"]


@pytest.mark.parametrize("strategy", ["full", "incremental"])
async def test_a_document_of_an_old_generation_is_refused(here: Stack, strategy: Strategy) -> None:
    oldest = (await here.generations())[-1].index

    async def happens(here: Stack, draft: str) -> None:
        assert OLDEST not in await everything(here, here.alias)
        written(here, draft, {OLDEST: (await everything(here, oldest))[OLDEST]})

    run = await refused(here, "green", happens, strategy=strategy)
    assert failed(run) == {"count", "ids"}
    assert f"1 should not be there ({OLDEST})" in checked(run, "ids")["detail"]


@pytest.mark.parametrize("strategy", ["full", "incremental"])
async def test_an_old_form_of_a_product_is_refused(here: Stack, strategy: Strategy) -> None:
    async def happens(here: Stack, draft: str) -> None:
        assert (await everything(here, draft))[CHANGED]["price"] == 99.5
        written(here, draft, {CHANGED: (await everything(here, here.alias))[CHANGED]})

    run = await refused(here, "green", happens, strategy=strategy)
    assert failed(run) == {"inputs", "fields"}
    assert "1 documents are made of another input" in checked(run, "inputs")["detail"]
    assert f"{CHANGED} differs in price" in checked(run, "fields")["detail"]


@pytest.mark.parametrize("strategy", ["incremental", "full"])
async def test_without_a_fault_the_same_run_is_ready(here: Stack, strategy: Strategy) -> None:
    run = await here.sync(strategy=strategy)
    assert (run.state, run.error, run.strategy, failed(run)) == ("ready", None, strategy, set())
    found = await everything(here, here.alias)
    assert not {OLDEST, GONE} & found.keys()
    assert (len(found), found[CHANGED]["price"]) == (PRODUCTS - 2, 99.5)
