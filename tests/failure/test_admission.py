"""What would make a run fail later is told when it is ordered: all of it at once, and nothing is made."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr

from app.config import EmbedderSettings, EngineSettings
from app.demo.catalogue import tolerant
from app.errors import Refused
from app.sync.words import Room
from tests.gates import QUICK
from tests.gateway import Gateway, gateway
from tests.stack import Gate, Stack, ask, stack, stock

pytestmark = pytest.mark.anyio

PRODUCTS = 60
TIB = 2**40


@asynccontextmanager
async def shop(url: str, folder: Path, **parts: Any) -> AsyncIterator[Stack]:
    """A catalogue on an engine, ready to be ordered; *parts* are laid over its declaration."""
    async with stack(url, folder, works=False) as here:
        here.shop.fill(stock(PRODUCTS), tolerant())
        await here.declare(**{"recipe": QUICK, **parts})
        yield here


@asynccontextmanager
async def behind(url: str, folder: Path, **parts: Any) -> AsyncIterator[tuple[Gateway, Stack]]:
    """The same with a worker, through a gateway that may say what it likes."""
    away = EmbedderSettings(url="http://127.0.0.1:9/v1", api_key=SecretStr("key"))
    embedders = {"hashing": EmbedderSettings(), "openai": away}
    async with (
        gateway(url) as way,
        stack(url, folder, engines={"main": EngineSettings(url=way.url)}, embedders=embedders) as here,
    ):
        here.shop.fill(stock(PRODUCTS), tolerant())
        await here.declare(**{"recipe": QUICK, **parts})
        yield way, here


async def findings(here: Stack) -> dict[str, str]:
    """What an order is refused for: `{code: detail}`; and nothing was made for it."""
    before = everything(here)
    with pytest.raises(Refused) as refused:
        await here.order()
    assert everything(here) == before, "nothing is built, not even to find out"
    found = refused.value.extra["findings"]
    assert isinstance(found, list)
    assert all(one["detail"] for one in found)
    return {one["code"]: one["detail"] for one in found}


def everything(here: Stack) -> list[str]:
    """The indices, aliases and templates of an engine that could be this catalogue's."""
    indices = httpx.get(f"{here.url}/{here.name}*?expand_wildcards=all", timeout=60).json()
    templates = httpx.get(f"{here.url}/_index_template?filter_path=index_templates.name", timeout=60).json()
    names = [template["name"] for template in templates.get("index_templates", ())]
    return sorted([*indices, *(alias for index in indices.values() for alias in index["aliases"]), *names])


class Told(Gate):
    """Answers in the engine's place."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self._answer = answer

    async def call(self, *_args: Any, **_named: Any) -> Any:
        """What it was told."""
        return self._answer


# --- the shape of the draft ------------------------------------------------------------------------------------------

CUSTOM = {"index": {"analysis": {"analyzer": {"mine": {"type": "custom", "tokenizer": "nonsense"}}}}}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"nonsense": 1}, r"unknown setting \[index\.nonsense\]"),
        ({"index": {"codec": "nope"}}, r"unknown value for \[index\.codec\]"),
        ({"max_result_window": "many"}, r"Failed to parse value \[many\]"),
        (CUSTOM, "failed to find tokenizer under name .nonsense.*correct target.settings"),
    ],
    ids=["unknown", "value", "number", "analyser"],
)
async def test_settings_that_the_engine_does_not_take(
    engine_url: str, tmp_path: Path, settings: Mapping[str, Any], said: str
) -> None:
    async with shop(engine_url, tmp_path, target={"settings": settings}) as here:
        found = await findings(here)
        assert list(found) == ["shape_refused"]
        assert re.search(said, found["shape_refused"]), found


async def test_a_vector_index_that_the_engine_does_not_have(engine_url: str, tmp_path: Path) -> None:
    async with shop(engine_url, tmp_path, recipe={**QUICK, "vector": {"index": "nonsense"}}) as here:
        found = await findings(here)
        assert list(found) in (["shape_refused"], ["vector_index_unknown"])
        assert "nonsense" in str(found)


async def test_what_the_engine_takes_is_no_finding(engine_url: str, tmp_path: Path) -> None:
    """An analyser that the engine lacks is `standard` in a run, attributes that nobody has are normal."""
    fields = {"name": "text", "rare": "keyword"}
    recipe = {**QUICK, "analyzer": "lacking", "vector": {"index": "int8_hnsw"}, "fields": fields}
    async with shop(engine_url, tmp_path, recipe=recipe, target={"settings": {"codec": "best_compression"}}) as here:
        assert (await here.order()).state == "queued"


# --- a sample of the products ----------------------------------------------------------------------------------------


async def test_a_recipe_that_no_product_fits(any_engine_url: str, tmp_path: Path) -> None:
    recipe = {**QUICK, "template": "{{ name }}", "fields": {"name": {"type": "date"}}}
    async with shop(any_engine_url, tmp_path, recipe=recipe) as here:
        found = await findings(here)
        assert list(found) == ["sample_rejected"]
        assert re.search(
            r"None of the first \d+ products .*name: .*correct template and fields", found["sample_rejected"]
        )


async def test_a_template_that_prints_nothing(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path, recipe={**QUICK, "template": "{{ not_there }}"}) as here:
        assert "prints nothing" in (await findings(here))["sample_rejected"]


async def test_products_that_a_rule_leaves_out_prove_nothing(any_engine_url: str, tmp_path: Path) -> None:
    recipe = {**QUICK, "exclude_when": {"status": [1, 2]}}
    async with shop(any_engine_url, tmp_path, recipe=recipe) as here:
        assert (await here.order()).state == "queued"


async def test_judgements_that_nobody_can_read(elasticsearch9: str, tmp_path: Path) -> None:
    async with shop(elasticsearch9, tmp_path, policy={"qrels": "shop.qrels.tsv"}) as here:
        assert (await findings(here))["qrels"] == "policy.qrels: FILES_DIR is not set."


async def test_one_product_that_fits_is_enough(any_engine_url: str, tmp_path: Path) -> None:
    recipe = {**QUICK, "template": "{{ only }}", "exclude_when": {}}
    async with shop(any_engine_url, tmp_path, recipe=recipe) as here:
        here.shop.fill([("a", {"name": "lamp"}), ("b", {"name": "desk", "only": "text"})], tolerant())
        assert (await here.order()).state == "queued"


# --- room ------------------------------------------------------------------------------------------------------------


def full(way: Gateway, free: int, total: int = TIB) -> None:
    """The disks are as full as that, and the engine minds."""
    disk = {"total_in_bytes": total, "free_in_bytes": free, "available_in_bytes": free}
    node = {"roles": ["data"], "fs": {"total": disk, "data": [disk]}}
    way.say(200, "GET", r"^/_nodes/[^?]*stats", body=orjson.dumps({"nodes": {"n": node}}), times=100)


def minded(way: Gateway, flood: str) -> None:
    """The flood stage of the engine."""
    disk = {"threshold_enabled": "true", "watermark": {"flood_stage": flood, "flood_stage.max_headroom": "100GB"}}
    routing = {"cluster": {"routing": {"allocation": {"disk": disk}}}}
    way.say(200, "GET", "^/_cluster/settings.*disk", body=orjson.dumps({"defaults": routing}), times=100)


async def test_no_room_for_one_more_generation(any_engine_url: str, tmp_path: Path) -> None:
    """A first generation is estimated from the sample; later ones are as large as the live one."""
    async with behind(any_engine_url, tmp_path) as (way, here):
        full(way, 10_000)
        found = await findings(here)
        assert list(found) == ["disk"]
        assert "free space on it" in found["disk"]
        way.lies.clear()
        assert (await here.sync()).state == "ready"
        live = ask(here.url, "GET", f"/{here.alias}/_stats/store")["_all"]["primaries"]["store"]["size_in_bytes"]
        full(way, 2 * live - 1)
        assert list(await findings(here)) == ["disk"]
        way.lies.clear()
        full(way, 2 * live + 1)
        assert (await here.order()).state == "queued"


@pytest.mark.parametrize("flood", ["95%", "0.95", f"{TIB // 20}b"])
async def test_the_flood_stage_is_kept_free(any_engine_url: str, tmp_path: Path, flood: str) -> None:
    async with behind(any_engine_url, tmp_path) as (way, here):
        full(way, TIB // 20)
        minded(way, flood)
        assert list(await findings(here)) == ["disk"]
        way.lies.clear()
        full(way, TIB // 10)
        minded(way, flood)
        assert (await here.order()).state == "queued"


async def test_more_shards_than_the_cluster_opens(any_engine_url: str, tmp_path: Path) -> None:
    async with behind(any_engine_url, tmp_path, target={"shards": 2, "replicas": 3}) as (_, here):
        here.gate("room", Told(Room(None, None, 7, 1)))
        assert "8 shards, and the cluster opens 7 more" in (await findings(here))["shards"]
        here.gate("room", Told(Room(None, None, 8, 1)))
        assert (await here.order()).state == "queued"


# --- everything at once ----------------------------------------------------------------------------------------------


async def test_everything_is_told_at_once(any_engine_url: str, tmp_path: Path) -> None:
    embedder = {"provider": "openai", "model": "text-embedding-3-small", "dims": 32}
    target = {"settings": {"nonsense": 1}, "shards": 2}
    async with behind(
        any_engine_url, tmp_path, recipe={"embedder": embedder, "template": "{{ not_there }}"}, target=target
    ) as (way, here):
        here.gate("room", Told(Room(10, TIB, 1, 1)))
        way.forbid("PUT", f"^/{here.name}-0")
        ask(here.url, "PUT", f"/{here.alias}")
        wrong = {"alias_is_index", "disk", "embedder_unavailable", "engine_forbidden", "sample_rejected"}
        assert set(await findings(here)) == wrong | {"shape_refused", "shards"}


async def test_what_does_not_hang_on_a_missing_source_is_told_with_it(any_engine_url: str, tmp_path: Path) -> None:
    missing = {"kind": "index", "index": "not_there"}
    async with behind(any_engine_url, tmp_path, source=missing) as (way, here):
        here.gate("room", Told(Room(10, TIB, 0, 1)))
        way.forbid("POST", "^/_aliases")
        ask(here.url, "PUT", f"/{here.alias}")
        assert set(await findings(here)) == {"source_unresolved", "alias_is_index", "engine_forbidden", "shards"}
