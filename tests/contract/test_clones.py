"""Clones, and the write blocks they need, whatever becomes of their runs; SQLite and Postgres."""

from collections.abc import AsyncIterator

import pytest

from app import catalogues, settling, sweeper
from app.errors import Conflict, EngineUnavailable
from tests.contract.clones import cloning, registered
from tests.contract.world import ALIAS, World, world_on

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with world_on(database_url, keep=1, rollback_window=1) as made:
        yield made


async def sweep(world: World) -> int:
    return await sweeper.sweep(world.db, world.connections)


async def epoch(world: World) -> int:
    async with world.db.reading() as session:
        return (await catalogues.get(session, world.name)).epoch


def blocked(world: World, index: str) -> bool:
    return world.twin.indices[index].write_blocked


async def test_a_clone_is_fed_when_it_is_there_and_the_epoch_moves_then(world: World) -> None:
    live = await world.synced()
    before = await epoch(world)
    ledger, draft = await registered(world, live)
    row = await world.generation(draft.generation)
    assert (row.state, row.fed, row.cloned_from) == ("draft", False, live.id)
    assert await epoch(world) == before
    assert await ledger.aliases(draft) == [f"{draft.index}.fill-1", f"{draft.index}.feed"]
    await ledger.feed(draft)
    assert (await world.generation(draft.generation)).fed
    assert await epoch(world) == before + 1
    await ledger.abandon(draft, "dropped")
    with pytest.raises(Conflict):
        await ledger.feed(draft)
    assert not (await world.generation(draft.generation)).fed


async def test_a_clone_can_be_promoted(world: World) -> None:
    live = await world.synced()
    ledger, draft = await cloning(world, live)
    await ledger.feed(draft)
    await world.engine.unblock(live.index)
    await world.engine.swap_alias(draft.index, draft.fill, draft.sealed)
    await ledger.sealed(draft, 3)
    await ledger.promote(draft)
    await world.finish(ledger, "ready")
    assert await world.live() == draft.index
    assert f"{ALIAS}.switch-2" in world.twin.indices[draft.index].aliases


async def test_a_block_is_left_while_a_run_clones_and_lifted_when_none_does(world: World) -> None:
    live = await world.synced()
    ledger, draft = await registered(world, live)
    await sweep(world)
    assert blocked(world, live.index), "a run is cloning"
    await ledger.feed(draft)
    await sweep(world)
    assert not blocked(world, live.index), "the clone is there: nobody needs the block"
    await world.engine.block(live.index)
    await world.finish(ledger, "failed")
    await sweep(world)
    assert not blocked(world, live.index), "it came late, from a worker whose run is over"


async def test_a_clone_of_a_run_that_is_over_keeps_no_block(world: World) -> None:
    live = await world.synced()
    ledger, _ = await registered(world, live)
    await world.finish(ledger, "failed")
    await sweep(world)
    assert not blocked(world, live.index)


async def test_a_block_on_what_is_not_ours_or_being_sealed_is_left(world: World) -> None:
    live = await world.synced()
    world.foreign("rag-20200101000000")
    await world.order()
    ledger = await world.claim()
    draft = await world.build(ledger)
    for index in ("rag-20200101000000", draft.index):
        await world.engine.block(index)
    await sweep(world)
    assert [blocked(world, index) for index in (live.index, draft.index, "rag-20200101000000")] == [False, True, True]


async def test_what_a_rollback_could_reach_is_unblocked_too(world: World) -> None:
    first = await world.synced()
    await world.synced()
    await world.engine.block(first.index)
    await sweep(world)
    assert not blocked(world, first.index)


async def test_a_clone_with_the_mark_it_was_born_with_is_collected_and_what_it_was_made_of_is_not(world: World) -> None:
    live = await world.synced()
    ledger, draft = await cloning(world, live)
    assert await sweep(world) == 0, "its run goes on"
    await world.finish(ledger, "failed")
    assert await sweep(world) == 1
    assert set(world.twin.indices) == {live.index}
    assert (await world.generation(draft.generation)).state == "dropped"


async def test_a_dead_run_that_cloned_is_settled_and_live_accepts_writes_again(world: World) -> None:
    live = await world.synced()
    ledger, draft = await cloning(world, live)
    await world.expire(ledger.run)
    run = await settling.settle_run(world.db, world.connections, ledger.run, "w2", 60)
    assert run is not None
    assert run.state == "failed"
    assert (set(world.twin.indices), blocked(world, live.index)) == ({live.index}, False)
    assert (await world.generation(draft.generation)).state == "dropped"


async def test_a_block_that_could_not_be_lifted_then_is_lifted_by_the_sweeper(world: World) -> None:
    live = await world.synced()
    ledger, _ = await cloning(world, live)
    await world.expire(ledger.run)

    async def out_of_reach() -> None:
        raise EngineUnavailable

    world.engine.before("unblock", out_of_reach)
    assert await settling.settle_run(world.db, world.connections, ledger.run, "w2", 60)
    assert blocked(world, live.index)
    await sweep(world)
    assert not blocked(world, live.index)
