"""Rollbacks as an operator meets them: twice, with nothing behind, while a run is active; each answered at once."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from app import catalogues, switches
from app.connections import Connections
from app.errors import Conflict, Problem, Refused
from app.models import Run
from tests.failure.scene import reached, through
from tests.stack import WAIT, Stack, ask, stack, stock

pytestmark = pytest.mark.anyio

AT_ONCE = 2.0
"""Seconds for a rollback; on a machine so busy that the engine alone needs long, `CALLS` calls' worth of that."""

CALLS = 12


@asynccontextmanager
async def synced(url: str, folder: Path, runs: int, **policy: Any) -> AsyncIterator[Stack]:
    """A catalogue after so many runs."""
    async with stack(url, folder) as here:
        here.shop.fill(stock(60))
        await here.declare(policy=policy)
        for _ in range(runs):
            assert (await here.sync()).state == "ready"
        yield here


@asynccontextmanager
async def operator(here: Stack) -> AsyncIterator["Operator"]:
    """Somebody who rolls back through connections of his own: no gate of the run is in his way."""
    connections = Connections(here.settings)
    await connections.engine("main")
    try:
        yield Operator(here, connections)
    finally:
        await connections.close()


class Operator:
    def __init__(self, here: Stack, connections: Connections) -> None:
        self._here, self._connections = here, connections

    async def rollback(self, **how: Any) -> Mapping[str, Any]:
        """Answered in under two seconds, with whatever answer."""
        here = self._here
        allowed = max(AT_ONCE, CALLS * one_call(here))
        since = time.monotonic()
        try:
            return await switches.rollback(here.db, self._connections, here.name, who="olga", **how)
        finally:
            assert time.monotonic() - since < allowed

    async def refused(self, **how: Any) -> str:
        """The code of the answer, when it is no."""
        with pytest.raises(Conflict) as no:
            await self.rollback(**how)
        return no.value.code


def one_call(here: Stack) -> float:
    """Seconds that the engine needs now to put an alias somewhere."""
    since = time.monotonic()
    add = {"add": {"index": here.shop.indices[-1], "alias": f"{here.name}-clock"}}
    ask(here.url, "POST", "/_aliases", orjson.dumps({"actions": [add]}))
    return time.monotonic() - since


async def order_refused(here: Stack) -> str:
    with pytest.raises(Conflict) as no:
        await here.order()
    return no.value.code


async def release(here: Stack) -> None:
    async with here.db.writing() as session:
        await catalogues.release(session, here.name, "olga")


# --- by itself -------------------------------------------------------------------------------------------------------


async def test_twice_goes_back_twice_and_to_a_named_one_forward(any_engine_url: str, tmp_path: Path) -> None:
    async with synced(any_engine_url, tmp_path, 3) as here, operator(here) as olga:
        third, second, first = await here.generations()
        answer = await olga.rollback()
        assert (answer["from"], answer["to"], here.behind_alias()) == (third.id, second.id, [second.index])
        assert (await olga.refused(to=first.id), here.behind_alias()) == ("stale", [second.index])
        answer = await olga.rollback(stale=True)
        assert (answer["to"], here.behind_alias()) == (first.id, [first.index])
        assert answer["stale_since"] is not None
        assert await olga.refused() == "nothing_behind"
        assert await olga.refused(to=first.id) == "already_live"
        answer = await olga.rollback(to=third.id, stale=True)
        assert (answer["to"], here.behind_alias()) == (third.id, [third.index])


async def test_afterwards_no_run_starts_until_somebody_releases(any_engine_url: str, tmp_path: Path) -> None:
    async with synced(any_engine_url, tmp_path, 2) as here, operator(here) as olga:
        await olga.rollback()
        (old,) = here.behind_alias()
        assert await order_refused(here) == "held"
        await release(here)
        assert (await here.sync()).state == "ready"
        assert here.behind_alias() != [old]
        await olga.rollback()
        assert await order_refused(here) == "held"
        assert (await here.sync(release=True)).state == "ready"


async def test_with_nothing_behind_nothing_moves(any_engine_url: str, tmp_path: Path) -> None:
    async with synced(any_engine_url, tmp_path, 0) as here, operator(here) as olga:
        assert await olga.refused() == "nothing_behind"
        assert (await here.sync()).state == "ready"
        (only,) = here.behind_alias()
        assert (await olga.refused(), here.behind_alias()) == ("nothing_behind", [only])
        assert (await here.sync()).state == "ready", "a refused rollback holds nothing"


# --- while a run is active -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["bulk", "nearest", "move"], ids=["filling", "verifying", "about to move"])
async def test_during_a_run_it_wins(any_engine_url: str, tmp_path: Path, method: str) -> None:
    async with synced(any_engine_url, tmp_path, 2) as here, operator(here) as olga:
        _, old = await here.generations()
        run, gate = await here.stopped_at(method)
        answer = await olga.rollback()
        assert (answer["to"], here.behind_alias()) == (old.id, [old.index])
        gate.open()
        ended = await here.ended(run.id)
        assert ended.error is not None
        assert (ended.state, ended.error["code"]) == ("failed", "rolled_back_meanwhile")
        assert here.behind_alias() == [old.index]
        assert len(here.indices()) == 2, "the draft is gone"
        assert here.open_contexts() == 0
        assert await order_refused(here) == "held"


async def test_a_run_from_before_it_is_no_good_although_the_alias_is_back_where_it_was(
    any_engine_url: str, tmp_path: Path
) -> None:
    async with synced(any_engine_url, tmp_path, 2) as here, operator(here) as olga:
        new, _ = await here.generations()
        run, gate = await here.stopped_at("bulk")
        await olga.rollback()
        await olga.rollback(to=new.id)
        gate.open()
        ended = await here.ended(run.id)
        assert ended.error is not None
        assert (ended.state, ended.error["code"]) == ("failed", "rolled_back_meanwhile")
        assert (here.behind_alias(), len(here.indices())) == ([new.index], 2)


async def test_a_move_that_comes_long_after_a_rollback_moves_nothing(any_engine_url: str, tmp_path: Path) -> None:
    """The alias is back where that move expects it; only its number tells that it is late."""
    async with through(any_engine_url, tmp_path) as (way, here), operator(here) as olga:
        await here.work()
        assert (await here.sync()).state == "ready"
        (old,) = here.behind_alias()
        run, late = await here.queued(), way.hold("POST", "^/_aliases", f'"alias":"{here.alias}"')
        await reached(late)
        late.lose()
        assert (await here.ended(run.id)).state == "ready"
        await olga.rollback()
        assert here.behind_alias() == [old]
        late.go()
        with anyio.fail_after(WAIT):
            await late.done.wait()
        assert (late.status, here.behind_alias()) == (404, [old])


# --- an index that is not ours ---------------------------------------------------------------------------------------


def somebodys(here: Stack, name: str, alias: Mapping[str, Any] | None = None) -> str:
    """An index that somebody else made, with a document, behind the alias unless *alias* is None."""
    index = f"{here.name}-{name}"
    aliases = {} if alias is None else {here.alias: dict(alias)}
    ask(here.url, "PUT", f"/{index}", orjson.dumps({"aliases": aliases}))
    ask(here.url, "PUT", f"/{index}/_doc/1?refresh=true", b'{"name": "theirs"}')
    return index


def written(here: Stack, index: str) -> tuple[int, str]:
    """The highest sequence number of an index, and its identity: equal before and after when nobody wrote."""
    shards = ask(here.url, "GET", f"/{index}/_stats?level=shards")["indices"][index]
    return shards["shards"]["0"][0]["seq_no"]["max_seq_no"], shards["uuid"]


async def test_a_foreign_index_is_taken_over_kept_and_never_touched(any_engine_url: str, tmp_path: Path) -> None:
    async with synced(any_engine_url, tmp_path, 0, keep=1) as here, operator(here) as olga:
        theirs = somebodys(here, "theirs", {})
        stood = written(here, theirs)
        assert (await here.sync()).state == "ready"
        ours, foreign = await here.generations()
        assert (foreign.index, foreign.origin, here.behind_alias()) == (theirs, "foreign", [ours.index])
        answer = await olga.rollback()
        assert (answer["to"], here.behind_alias(), here.count()) == (foreign.id, [theirs], 1)
        for _ in range(3):
            assert (await here.sync(release=True)).state == "ready"
        assert here.behind_alias() == [(await here.generations())[0].index]
        assert written(here, theirs) == stood
        await olga.rollback(to=foreign.id)
        assert here.behind_alias() == [theirs]


# --- others at the alias ---------------------------------------------------------------------------------------------


def put_alias(here: Stack, to: str) -> None:
    """Move the alias, as somebody who knows nothing of us."""
    leave = [{"remove": {"index": index, "alias": here.alias}} for index in here.behind_alias()]
    actions = [*leave, {"add": {"index": to, "alias": here.alias}}]
    ask(here.url, "POST", "/_aliases", orjson.dumps({"actions": actions}))


def assert_moved_away(run: Run) -> None:
    assert run.error is not None
    assert (run.state, run.error["code"]) == ("failed", "alias_moved"), run.error


@pytest.mark.parametrize("method", ["bulk", "move"], ids=["filling", "about to move"])
@pytest.mark.parametrize("before", [0, 1], ids=["no generation yet", "one live"])
async def test_an_alias_that_somebody_moved_meanwhile_stays_there(
    any_engine_url: str, tmp_path: Path, method: str, before: int
) -> None:
    async with synced(any_engine_url, tmp_path, before) as here:
        theirs, stood = somebodys(here, "theirs"), here.indices()
        run, gate = await here.stopped_at(method)
        put_alias(here, theirs)
        gate.open()
        assert_moved_away(await here.ended(run.id))
        assert (here.behind_alias(), here.indices(), here.open_contexts()) == ([theirs], stood, 0)


async def test_the_first_promotion_creates_the_alias(any_engine_url: str, tmp_path: Path) -> None:
    async with synced(any_engine_url, tmp_path, 0) as here:
        assert here.behind_alias() == []
        assert (await here.sync()).state == "ready"
        assert here.behind_alias() == here.indices()


async def refusal(here: Stack) -> list[str]:
    """What an order hears; nothing was queued and nothing built."""
    with pytest.raises(Refused) as refused:
        await here.order()
    assert refused.value.status == 422
    assert here.indices() == []
    found: Any = refused.value.extra["findings"]
    return [one["code"] for one in found]


async def test_an_alias_that_can_not_be_moved_is_refused_before_anything_is_built(
    any_engine_url: str, tmp_path: Path
) -> None:
    async with synced(any_engine_url, tmp_path, 0) as here:
        ask(here.url, "PUT", f"/{here.alias}", b"{}")
        assert await refusal(here) == ["alias_is_index"]
        ask(here.url, "DELETE", f"/{here.alias}")
        first = somebodys(here, "theirs", {"filter": {"term": {"name": "theirs"}}})
        assert await refusal(here) == ["alias_filtered"]
        put_alias(here, first)
        put = {"actions": [{"add": {"index": somebodys(here, "others"), "alias": here.alias}}]}
        ask(here.url, "POST", "/_aliases", orjson.dumps(put))
        assert await refusal(here) == ["alias_ambiguous"]


async def test_a_rollback_says_so_when_somebody_moved_the_alias(any_engine_url: str, tmp_path: Path) -> None:
    async with synced(any_engine_url, tmp_path, 2) as here, operator(here) as olga:
        theirs = somebodys(here, "theirs")
        put_alias(here, theirs)
        with pytest.raises(Problem) as no:
            await olga.rollback()
        assert (no.value.code, here.behind_alias()) == ("alias_moved", [theirs])
