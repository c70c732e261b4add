"""The whole run on each engine: what readers see before, during and after."""

from pathlib import Path

import pytest

from app import sweeper
from app.errors import NotFound, Refused
from tests.stack import ask, stack, stock

pytestmark = pytest.mark.anyio


async def test_a_full_run_makes_a_proven_generation_live(engine_url: str, tmp_path: Path) -> None:
    async with stack(engine_url, tmp_path) as here:
        held = here.shop.fill(stock(400))
        await here.declare()
        run = await here.sync()
        assert (run.state, run.error) == ("ready", None)
        assert run.verdict is not None
        assert all(check["passed"] for check in run.verdict["checks"])
        assert run.counts["source"] == run.counts["read"] == held
        assert run.counts["excluded"] > 0
        assert run.counts["rejected"] == 0
        assert here.count() == run.counts["loaded"] == held - run.counts["excluded"]
        (generation,) = await here.generations()
        assert here.behind_alias() == [generation.index]
        assert here.open_contexts() == 0


async def test_the_next_run_replaces_it_and_a_rollback_brings_it_back(engine_url: str, tmp_path: Path) -> None:
    async with stack(engine_url, tmp_path) as here:
        here.shop.fill(stock(120))
        await here.declare()
        first, second = await here.sync(), await here.sync()
        assert (first.state, second.state) == ("ready", "ready")
        new, old = await here.generations()
        assert here.behind_alias() == [new.index]
        answer = await here.rollback()
        assert (answer["from"], answer["to"]) == (new.id, old.id)
        assert here.behind_alias() == [old.index]


async def test_only_as_many_old_generations_are_kept_as_the_policy_says(newer_engine_url: str, tmp_path: Path) -> None:
    async with stack(newer_engine_url, tmp_path) as here:
        here.shop.fill(stock(60))
        await here.declare(policy={"keep": 1})
        for _ in range(3):
            assert (await here.sync()).state == "ready"
        assert [one.state for one in await here.generations()] == ["live", "retired", "dropped"]
        assert len(here.indices()) == 2


async def test_several_shards_are_read_whole(newer_engine_url: str, tmp_path: Path) -> None:
    async with stack(newer_engine_url, tmp_path, slices=2) as here:
        held = here.shop.fill(
            stock(2500), {"settings": {"number_of_shards": 3, "number_of_replicas": 0}, "mappings": {"dynamic": False}}
        )
        await here.declare(target={"shards": 2}, recipe={"template": "{{ name }}", "fields": {"sku": "keyword"}})
        run = await here.sync()
        assert (run.state, run.counts["read"]) == ("ready", held)


async def test_standard_takes_the_place_of_an_analyser_that_the_engine_lacks(engine_url: str, tmp_path: Path) -> None:
    async with stack(engine_url, tmp_path) as here:
        here.shop.fill(stock(40))
        await here.declare(recipe={"analyzer": "no_such_analyser"})
        run = await here.sync()
        assert (run.state, run.error) == ("ready", None)
        assert run.verdict is not None
        said = [check for check in run.verdict["checks"] if check["check"] == "analyzer"]
        assert [(check["expected"], check["found"], check["passed"]) for check in said] == [
            ("no_such_analyser", "standard", True)
        ]


async def test_forgetting_with_purge_drops_what_we_made_and_nothing_else(newer_engine_url: str, tmp_path: Path) -> None:
    async with stack(newer_engine_url, tmp_path) as here:
        foreign = f"{here.name}-20200101000000"
        ask(here.url, "PUT", f"/{foreign}")
        here.shop.fill(stock(60))
        await here.declare()
        assert [(await here.sync()).state for _ in range(2)] == ["ready", "ready"]
        assert len(here.indices()) == 3
        await sweeper.forget(here.db, here.connections, here.name, "tester", purge=True)
        assert here.indices() == [foreign]
        assert here.behind_alias() == []
        with pytest.raises(NotFound):
            await here.order()


async def test_all_that_is_wrong_is_told_at_once(elasticsearch9: str, tmp_path: Path) -> None:
    async with stack(elasticsearch9, tmp_path, offline=True) as here:
        for embedder, code in (({"provider": "openai"}, "offline"), ({"provider": "local", "dims": 7}, "wrong_dims")):
            await here.declare(recipe={"embedder": embedder})
            with pytest.raises(Refused) as refused:
                await here.order()
            assert {finding["code"] for finding in refused.value.extra["findings"]} == {code, "source_unresolved"}
