"""A worker dies anywhere: whoever finds its run ends it, and what it left goes away; SQLite and Postgres."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from app import aliases, catalogues, generations, progress, retention, runs, settling, sweeper
from app.columns import utc_now
from app.errors import EngineError, LeaseLost
from app.models import Generation, Run
from app.sync.words import Draft
from tests.contract.unsteady import Died
from tests.contract.world import RECIPE, REFUSED, SHAPE, STAMP, World, spec, world_on

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with world_on(database_url, keep=1, rollback_window=1) as made:
        yield made


async def settle(world: World, run_id: str, worker: str = "w2") -> Run | None:
    return await settling.settle_run(world.db, world.connections, run_id, worker, 60)


async def sweep(world: World, **how: object) -> int:
    return await sweeper.sweep(world.db, world.connections, **how)


def indices(world: World) -> set[str]:
    return set(world.twin.indices)


async def filling(world: World) -> tuple[str, Draft]:
    """A worker that died in the middle of filling, with a point in time open."""
    await world.order()
    ledger = await world.claim()
    draft = await ledger.register(RECIPE, "hash", STAMP)
    await world.engine.create(draft.index, SHAPE, await ledger.aliases(draft), await ledger.mark(draft))
    world.twin.open_pits["pit"] = ("", {})
    await ledger.pit("pit", "shop-1", "u")
    await ledger.stage("filling")
    await world.expire(ledger.run)
    return ledger.run, draft


# --- settle ----------------------------------------------------------------------------------------------------------


async def test_a_dead_run_is_failed_its_draft_dropped_its_point_in_time_closed(world: World) -> None:
    live = await world.synced()
    run_id, draft = await filling(world)
    run = await settle(world, run_id)
    assert (run.state, run.error["code"], run.pit) == ("failed", "worker_lost", None)
    assert (await world.generation(draft.generation)).state == "dropped"
    assert indices(world) == {live.index}
    assert world.twin.open_pits == {}
    assert (await world.order()).state == "queued"


async def test_a_living_run_is_left_alone_and_only_one_settles_a_dead_one(world: World) -> None:
    await world.order()
    ledger = await world.claim()
    assert await settle(world, ledger.run) is None
    await world.expire(ledger.run)
    answers = []

    async def one() -> None:
        answers.append(await settle(world, ledger.run))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(one)
    assert len([answer for answer in answers if answer is not None]) == 1


async def test_a_canceled_run_whose_worker_died_is_canceled(world: World) -> None:
    run_id, _ = await filling(world)
    async with world.db.writing() as session:
        await runs.cancel(session, run_id, "bob")
    assert (await settle(world, run_id)).state == "canceled"


async def test_the_old_worker_is_shut_out_of_the_draft_before_it_is_dropped(world: World) -> None:
    run_id, draft = await filling(world)
    world.engine.unheard("drop")
    await settle(world, run_id)
    (left,) = await world.engine.resolve(draft.index)
    assert draft.fill not in left.aliases
    assert f"{draft.index}.fill-2" in left.aliases
    assert await sweep(world) == 1
    assert indices(world) == set()


@pytest.mark.parametrize("moved", [False, True])
async def test_a_promotion_its_worker_did_not_live_to_commit_is_brought_to_its_end(world: World, moved: bool) -> None:
    await world.synced()
    ledger, draft = await world.begun()
    await dies_promoting(world, ledger, draft, moved=moved)
    assert (await settle(world, ledger.run)).state == "ready"
    assert await world.live() == draft.index


async def dies_promoting(world: World, ledger: object, draft: Draft, *, moved: bool) -> None:
    world.engine.dies("resolve" if moved else "move", after="move" if moved else None)
    with pytest.raises(Died):
        await ledger.promote(draft)
    await world.expire(ledger.run)
    async with world.db.reading() as session:
        assert (await aliases.open_switch(session, world.name)) is not None


@pytest.mark.parametrize("moved", [False, True])
async def test_a_canceled_promotion_is_canceled_over_a_burnt_number_or_ready_when_it_moved(
    world: World, moved: bool
) -> None:
    before = await world.synced()
    ledger, draft = await world.begun()
    await dies_promoting(world, ledger, draft, moved=moved)
    async with world.db.writing() as session:
        await runs.cancel(session, ledger.run, "bob")
    assert (await settle(world, ledger.run)).state == ("ready" if moved else "canceled")
    assert await world.live() == (draft.index if moved else before.index)
    assert (draft.index in indices(world)) is moved


async def test_a_run_whose_worker_died_after_its_promotion_is_ready(world: World) -> None:
    ledger, draft = await world.begun()
    await ledger.promote(draft)
    await world.expire(ledger.run)
    assert (await settle(world, ledger.run)).state == "ready"
    assert await world.live() == draft.index


async def test_without_an_engine_an_open_switch_keeps_its_run_and_the_next_one_settles_it(world: World) -> None:
    await world.synced()
    ledger, draft = await world.begun()
    await dies_promoting(world, ledger, draft, moved=True)

    async def refuses() -> None:
        raise EngineError("out of reach for longer than anybody waits")

    world.engine.before("move", refuses)
    with pytest.raises(EngineError):
        await settle(world, ledger.run)
    assert (await world.run(ledger.run)).state == "running"
    await world.expire(ledger.run)
    assert (await settle(world, ledger.run, "w3")).state == "ready"


async def test_without_an_engine_a_run_that_never_promoted_ends_and_the_sweeper_cleans_up(world: World) -> None:
    run_id, draft = await filling(world)
    for method in ("resolve", "drop", "close_pit"):
        world.engine.unheard(method, 9)
    run = await settle(world, run_id)
    assert (run.state, run.pit) == ("failed", "pit")
    world.engine.steady()
    assert await sweep(world) == 1
    assert (indices(world), world.twin.open_pits) == (set(), {})
    assert (await world.run(run_id)).pit is None
    assert (await world.generation(draft.generation)).state == "dropped"


async def test_a_settler_that_dies_at_any_step_is_followed_by_one_that_finishes(world: World) -> None:
    for step in ("resolve", "swap_alias", "drop", "close_pit"):
        run_id, draft = await filling(world)
        world.engine.dies(step)
        with pytest.raises(Died):
            await settle(world, run_id)
        assert (await world.run(run_id)).state == "running", step
        await world.expire(run_id)
        assert (await settle(world, run_id, "w3")).state == "failed", step
        assert (indices(world), world.twin.open_pits) == (set(), {}), step
        assert (await world.generation(draft.generation)).state == "dropped", step


async def test_a_settler_that_was_overtaken_itself_changes_nothing(world: World) -> None:
    run_id, _ = await filling(world)

    async def overtaken() -> None:
        await world.expire(run_id)
        assert (await settle(world, run_id, "w3")).state == "failed"

    world.engine.before("resolve", overtaken)
    with pytest.raises(LeaseLost):
        await settle(world, run_id)
    assert (await world.run(run_id)).worker == "w3"


# --- sweep -----------------------------------------------------------------------------------------------------------


async def test_the_sweeper_drops_what_is_beyond_keep_and_nothing_else(world: World) -> None:
    made = [await world.synced() for _ in range(4)]
    assert await sweep(world) == 2
    assert indices(world) == {made[2].index, made[3].index}
    assert [(await world.generation(one.id)).state for one in made] == ["dropped", "dropped", "retired", "live"]
    assert await sweep(world) == 0
    assert (await world.rollback())["to"] == made[2].id


async def test_the_sweeper_leaves_what_is_not_ours_or_not_what_its_mark_says(world: World) -> None:
    live = await world.synced()
    (info,) = await world.engine.resolve(live.index)
    ended, mark = info.mark.run, info.mark
    strangers = {
        "rag-20200101000000": None,
        "rag-20200101000001": replace(mark, owner="somebody else"),
        "rag-20200101000002": replace(mark, catalogue="another"),
        "rag-20200101000003": replace(mark, run="unknown"),
        "rag-archive-20200101000004": replace(mark, run=ended),
        "rag-2020": replace(mark, run=ended),
    }
    for name, other in strangers.items():
        world.foreign(name)
        world.twin.indices[name].mark = other
    await world.engine.create("rag-20200101000009", SHAPE, [], replace(mark, generation="none", run=ended))
    assert await sweep(world) == 1
    assert indices(world) == {live.index, *strangers}


@pytest.mark.parametrize("other", [{"owner": "somebody else"}, {"generation": "another"}, {"catalogue": "another"}])
async def test_a_dropped_row_whose_index_bears_another_mark_is_left(world: World, other: dict[str, str]) -> None:
    for _ in range(3):
        await world.synced()
    async with world.db.writing() as session:
        catalogue = await catalogues.locked(session, world.name)
        (gone,) = await retention.overdue(session, catalogue)
    index = world.twin.indices[gone.index]
    index.mark = replace(index.mark, **other)
    assert await sweep(world) == 0
    assert gone.index in indices(world)


async def test_the_sweeper_never_drops_behind_a_reader_alias(world: World) -> None:
    made = [await world.synced() for _ in range(3)]
    world.put(made[0].index)
    assert await sweep(world) == 0
    assert made[0].index in indices(world)
    world.take(made[0].index)

    async def at_the_last_moment() -> None:
        world.put(made[0].index)

    world.engine.before("resolve", at_the_last_moment)
    assert await sweep(world) == 0
    assert made[0].index in indices(world)


async def test_what_an_open_switch_names_is_kept(world: World) -> None:
    made = [await world.synced() for _ in range(3)]
    world.engine.dies("move")
    with pytest.raises(Died):
        await world.rollback(to=made[0].id, stale=True)
    async with world.db.writing() as session:
        catalogue = await catalogues.locked(session, world.name)
        assert await retention.overdue(session, catalogue) == []
    assert (await world.rollback(to=made[0].id, stale=True))["to"] == made[0].id


async def test_a_rollback_nobody_waits_for_is_given_up(world: World) -> None:
    _, live = await world.synced(), await world.synced()
    world.engine.dies("move")
    with pytest.raises(Died):
        await world.rollback()
    await sweep(world)
    async with world.db.reading() as session:
        assert await aliases.open_switch(session, world.name) is not None
    await sweep(world, now=utc_now() + timedelta(minutes=2))
    assert await world.live() == live.index
    assert (await world.order()).state == "queued"


async def test_a_draft_that_is_being_built_or_was_refused_is_left(world: World) -> None:
    await world.order()
    ledger = await world.claim()
    refused = await world.build(ledger, REFUSED)
    await world.finish(ledger, "failed")
    await sweep(world)
    assert indices(world) == {refused.index}
    await world.order()
    building = await world.build(await world.claim())
    await sweep(world)
    assert indices(world) == {building.index}


async def test_an_index_made_while_the_sweeper_looks_is_left(world: World) -> None:
    await world.order()
    ledger = await world.claim()

    async def it_begins() -> None:
        draft = await ledger.register(RECIPE, "hash", STAMP)
        await world.engine.create(draft.index, SHAPE, [], await ledger.mark(draft))

    world.engine.before("listed", it_begins)
    assert await sweep(world) == 0
    assert len(indices(world)) == 1


async def test_a_draft_of_a_run_that_ended_without_a_word_is_swept(world: World) -> None:
    run_id, draft = await filling(world)
    async with world.db.writing() as session:
        run = await runs.get(session, run_id)
        run.state = "failed"
    assert await sweep(world) == 1
    assert (await world.generation(draft.generation)).state == "dropped"


async def test_one_catalogue_in_trouble_does_not_keep_the_others_from_being_swept(world: World) -> None:
    for _ in range(3):
        await world.synced()
    async with world.db.writing() as session:
        await catalogues.declare(session, "aaa", spec("other-live"))
    world.engine.unheard("listed")
    assert await sweep(world) == 1


async def test_old_lines_and_rejects_go_runs_stay(world: World) -> None:
    await world.synced()
    await sweep(world, now=utc_now() + timedelta(days=91), retention_days=90)
    async with world.db.reading() as session:
        assert await progress.oldest(session, catalogue=world.name) is None
        assert len((await runs.listed(session))[0]) == 1
        assert await session.get(Generation, (await generations.live(session, world.name)).id)
