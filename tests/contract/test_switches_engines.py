"""The switch on the twin and on every real engine: taken over, moved, late, burnt, brought to its end, swept; and
what a run that cloned leaves behind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app import settling, sweeper, switches
from app.errors import SwitchSpent
from app.sync.engine_port import Engine
from app.sync.words import Mark, Move
from tests.contract.clones import cloning
from tests.contract.unsteady import Died, Unsteady
from tests.contract.world import SHAPE, World, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(engine: Engine, name: str, tmp_path: Path) -> AsyncIterator[World]:
    async with opened(f"sqlite+aiosqlite:///{tmp_path}/reshelve.db") as db:
        made = World(db, Unsteady(engine), alias=f"{name}-live")
        await made.declare(keep=1, rollback_window=1)
        yield made


async def test_a_foreign_index_is_taken_over_gone_back_to_and_left_again(world: World, name: str) -> None:
    old = f"{name}-old"
    await world.engine.create(old, SHAPE, [world.alias], Mark("x", "x", "x", "x", "x"))
    first = await world.synced()
    assert await world.live() == first.index
    await world.rollback()
    assert await world.live() == old
    second = await world.synced(release=True)
    assert await world.live() == second.index


async def test_every_number_serves_once(world: World) -> None:
    first, second = await world.synced(), await world.synced()
    late = Move(world.alias, 1, first.index, first.index, second.index)
    await world.rollback()
    for again in (late, Move(world.alias, 0, first.index, None, first.index)):
        with pytest.raises(SwitchSpent):
            await world.engine.move(again)
    assert await world.live() == first.index


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("give_up", [False, True])
async def test_a_broken_off_switch_is_settled(world: World, moved: bool, give_up: bool) -> None:
    ledger, draft = await world.begun()
    world.engine.dies("resolve" if moved else "move", after="move" if moved else None)
    with pytest.raises(Died):
        await ledger.promote(draft)
    row = await switches.settle(world.db, world.engine, world.name, give_up=give_up)
    assert row.state == ("burnt" if give_up and not moved else "moved")
    await world.expire(ledger.run)
    run = await settling.settle_run(world.db, world.connections, ledger.run, "w2", 60)
    if row.state == "moved":
        assert (run.state, await world.live()) == ("ready", draft.index)
    else:
        assert (run.state, await world.engine.resolve(draft.index)) == ("failed", [])


async def test_what_nothing_keeps_is_swept_and_the_alias_stays(world: World, name: str) -> None:
    made = [await world.synced() for _ in range(3)]
    assert await sweeper.sweep(world.db, world.connections) == 1
    assert {info.name for info in await world.engine.listed(f"{name}-")} == {made[1].index, made[2].index}
    assert await world.live() == made[2].index


async def test_a_write_block_that_nobody_needs_is_lifted(world: World) -> None:
    live = await world.synced()
    await world.engine.block(live.index)
    await sweeper.sweep(world.db, world.connections)
    (info,) = await world.engine.resolve(live.index)
    assert not info.write_blocked


async def test_a_clone_under_the_mark_it_was_born_with_is_collected(world: World, name: str) -> None:
    live = await world.synced()
    ledger, draft = await cloning(world, live)
    (clone,) = await world.engine.resolve(draft.index)
    assert clone.mark is not None
    assert clone.mark.generation == live.id
    await world.finish(ledger, "failed")
    assert await sweeper.sweep(world.db, world.connections) == 1
    assert [info.name for info in await world.engine.listed(f"{name}-")] == [live.index]
    assert (await world.generation(draft.generation)).state == "dropped"


async def test_a_dead_run_that_cloned_leaves_no_block_and_no_clone(world: World, name: str) -> None:
    live = await world.synced()
    ledger, _ = await cloning(world, live)
    await world.expire(ledger.run)
    await settling.settle_run(world.db, world.connections, ledger.run, "w2", 60)
    (info,) = await world.engine.listed(f"{name}-")
    assert (info.name, info.write_blocked) == (live.index, False)


async def test_a_live_index_that_was_deleted_is_replaced(world: World) -> None:
    lost = await world.synced()
    await world.engine.drop(lost.index)
    again = await world.synced()
    assert await world.live() == again.index
