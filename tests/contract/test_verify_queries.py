"""What readers would find, before and after: by the catalogue's own queries, by judgements, and without asking a model.

The second generation is made by another recipe, its vectors of other dims: a query that is put to an index with the
vector of the other one is refused by the engine.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app import catalogues
from app.config import EmbedderSettings
from app.demo.catalogue import tolerant
from app.models import Run
from tests.contract.planted import PRODUCTS, checked, failed, product
from tests.embedding_server import EmbeddingServer
from tests.gates import QUICK, Watched, documents
from tests.stack import Stack, stack, stock

pytestmark = pytest.mark.anyio

BY_NAME = {**QUICK, "template": "{{ name }}", "fields": {"name": "text", "sku": "keyword"}}
BY_SKU = {**BY_NAME, "template": "{{ sku }}", "embedder": {"provider": "hashing", "dims": 48}}
JUDGED, HALF_JUDGED, FAR = product(3), product(7), "p999"


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as here:
        yield here


@asynccontextmanager
async def shop(url: str, folder: Path, policy: dict[str, Any], **settings: Any) -> AsyncIterator[Stack]:
    """A catalogue whose texts are names, with a live generation."""
    async with stack(url, folder, slices=1, **settings) as here:
        here.shop.fill(map(product, range(PRODUCTS)), tolerant())
        await declared(here, BY_NAME, policy)
        assert (await here.sync()).error is None
        yield here


async def declared(here: Stack, recipe: dict[str, Any], policy: dict[str, Any]) -> None:
    """The catalogue with a policy."""
    await here.declare(recipe=recipe)
    async with here.db.writing() as session:
        catalogue = await catalogues.get(session, here.name)
        catalogue.spec = {**catalogue.spec, "policy": policy}


def names(run: Run) -> set[str]:
    """The checks of a verdict."""
    assert run.verdict is not None
    return {check["check"] for check in run.verdict["checks"]}


# --- declared queries ------------------------------------------------------------------------------------------------


async def test_the_same_lists_are_told_and_the_first_generation_is_compared_with_nothing(
    elasticsearch9: str, tmp_path: Path
) -> None:
    policy = {"queries": ["amber lamp", JUDGED[1]["name"]], "overlap_floor": 1}
    async with stack(elasticsearch9, tmp_path, slices=1) as here:
        here.shop.fill(map(product, range(PRODUCTS)), tolerant())
        await declared(here, BY_NAME, policy)
        assert "queries" not in names(await here.sync())
        asked = here.gate("embed", Watched())
        run = await here.sync()
        assert (run.state, run.error, checked(run, "queries")["found"]) == ("ready", None, 1.0)
        assert isinstance(asked, Watched)
        assert [args[0] for args, _ in asked.answers] == [["amber lamp"]], "the other one is the text of a product"
        assert (await here.sync()).error is None
        assert len(asked.answers) == 1, "what was asked once is kept"


async def test_an_overlap_below_the_floor_is_refused(elasticsearch9: str, tmp_path: Path) -> None:
    queries = [product(number)[1]["name"] for number in range(5)]
    async with shop(elasticsearch9, tmp_path, {"queries": queries}) as here:
        live = here.behind_alias()
        await declared(here, BY_SKU, {"queries": queries, "overlap_floor": 0.95})
        run = await here.sync()
        assert run.error is not None
        assert (run.state, run.error["code"], failed(run)) == ("failed", "verdict_refused", {"queries"})
        check = checked(run, "queries")
        assert (check["expected"], check["found"] < 0.95) == ("at least 0.95", True)
        assert "5 queries" in check["detail"]
        assert here.behind_alias() == live
        await declared(here, BY_SKU, {"queries": queries})
        told = await here.sync()
        assert (told.state, told.error) == ("ready", None)
        assert checked(told, "queries")["found"] == check["found"]


async def test_a_live_generation_whose_model_is_away_is_told_or_refused_as_the_floor_wants(
    elasticsearch9: str, tmp_path: Path, server: EmbeddingServer
) -> None:
    policy = {"queries": ["amber lamp"], "qrels": "shop.qrels.tsv"}
    judged(tmp_path, " of old")
    away = {"openai": EmbedderSettings(url=server.url, api_key="sk-x", timeout=60), "hashing": EmbedderSettings()}
    settings = {"embedders": away, "files_dir": tmp_path}
    async with stack(elasticsearch9, tmp_path, slices=1, **settings) as here:
        here.shop.fill(map(product, range(PRODUCTS)), tolerant())
        await declared(here, {**BY_NAME, "embedder": {"provider": "openai", "model": "some-model"}}, {})
        assert (await here.sync()).error is None
        server.always("401")
        await declared(here, BY_NAME, {**policy, "overlap_floor": 0.5})
        run = await here.sync()
        assert failed(run) == {"queries"}
        await declared(here, BY_NAME, policy)
        run = await here.sync()
        assert (run.state, run.error, failed(run)) == ("ready", None, set())
        assert checked(run, "queries")["found"] == checked(run, "ndcg")["found"] == "embedder_unauthorized"


# --- judgements ------------------------------------------------------------------------------------------------------


def judged(folder: Path, more: str = "") -> None:
    """Two queries, each the name of a product: it is what people want, for the second one beside a far one.

    One is called by its SKU, as people do, the others by their ids.
    """
    assert JUDGED[1]["sku"] != JUDGED[0]
    (folder / "shop.qrels.tsv").write_text(f"1\t0\t{JUDGED[1]['sku']}\t3\n2\t0\t{HALF_JUDGED[0]}\t1\n2\t0\t{FAR}\t1\n")
    queries = enumerate((JUDGED[1]["name"], HALF_JUDGED[1]["name"]), start=1)
    (folder / "shop.queries.tsv").write_text("".join(f"{number}\t{words}{more}\n" for number, words in queries))


async def test_figures_before_and_after_stand_on_the_verdict(elasticsearch9: str, tmp_path: Path) -> None:
    judged(tmp_path)
    policy = {"qrels": "shop.qrels.tsv"}
    async with stack(elasticsearch9, tmp_path, slices=1, files_dir=tmp_path) as here:
        here.shop.fill(map(product, range(PRODUCTS)), tolerant())
        await declared(here, BY_NAME, policy)
        first = await here.sync()
        ndcg, recall = checked(first, "ndcg"), checked(first, "recall")
        assert (ndcg["expected"], recall["expected"]) == (None, None)
        assert ndcg["found"] == pytest.approx((1 + 1 / (1 + 1 / 1.584962500721156)) / 2, abs=1e-4)
        assert recall["found"] == 0.75
        await declared(here, BY_SKU, policy)
        second = await here.sync()
        assert (second.state, second.error) == ("ready", None)
        assert checked(second, "ndcg")["expected"] == ndcg["found"] > checked(second, "ndcg")["found"]
        assert checked(second, "recall")["expected"] == recall["found"]
        assert "2 judged queries" in checked(second, "recall")["detail"]


async def test_judgements_that_cannot_be_read_fail_the_run_before_anything_is_built(
    elasticsearch9: str, tmp_path: Path
) -> None:
    async with shop(elasticsearch9, tmp_path, {}, files_dir=tmp_path) as here:
        before = here.indices()
        await declared(here, BY_NAME, {"qrels": "none.qrels.tsv"})
        run = await here.ended((await here.queued()).id)
        assert run.error is not None
        assert (run.state, run.error["code"]) == ("failed", "qrels")
        assert "none.qrels.tsv' cannot be read" in run.error["detail"]
        assert here.indices() == before


# --- what is proven for nothing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["full", "incremental"])
async def test_proving_what_is_known_asks_no_model(
    each_engine_url: str, tmp_path: Path, server: EmbeddingServer, strategy: str
) -> None:
    """The first run asks, and is what keeps the second from probing whether the model is there."""
    endpoint = EmbedderSettings(url=server.url, api_key="sk-x", timeout=10)
    async with stack(each_engine_url, tmp_path, embedders={"openai": endpoint}) as here:
        here.shop.fill(stock(150))
        await here.declare(recipe={"embedder": {"provider": "openai", "model": "some-model"}})
        first = await here.sync()
        assert (first.state, first.error) == ("ready", None)
        assert server.calls
        asked = len(server.calls)
        if strategy == "incremental":
            sold = min(documents(here, here.alias))
            here.shop.put(here.shop.indices[-1], [(sold, {**dict(stock(150))[sold], "price_0_1": 0.5})])
        run = await here.sync(strategy=strategy)
        assert (run.state, run.error, run.strategy, failed(run)) == ("ready", None, strategy, set())
        assert {"self_test", "queries", "vector"} <= names(run)
        assert (run.counts["embedded"], len(server.calls) - asked) == (0, 0)
