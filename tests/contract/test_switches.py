"""Promotion and rollback as a searcher and an operator see them, whatever fails in between; SQLite and Postgres."""

from collections.abc import AsyncIterator

import anyio
import pytest
from sqlmodel import select

from app import aliases, audit, catalogues, generations, retention, switches
from app.errors import Conflict, EngineUnavailable, NotFound, Problem, SwitchSpent
from app.models import Generation, Switch
from app.sync.words import IndexInfo, Move
from tests.contract.unsteady import Died
from tests.contract.world import ALIAS, PASSED, REFUSED, World, world_on

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with world_on(database_url, rollback_window=5, keep=5) as made:
        yield made


async def rows(world: World) -> list[tuple[int, str, str]]:
    async with world.db.reading() as session:
        query = select(Switch).order_by(Switch.number)
        return [(row.number, row.kind, row.state) for row in (await session.exec(query)).all()]


async def codes(world: World) -> list[str]:
    return [found["code"] for found in await switches.alias_findings(world.db, world.engine, world.name)]


async def held(world: World) -> bool:
    async with world.db.reading() as session:
        return (await catalogues.get(session, world.name)).held


# --- promotion -------------------------------------------------------------------------------------------------------


async def test_the_first_promotion_creates_the_alias_and_later_ones_move_it(world: World) -> None:
    first = await world.synced()
    assert await world.live() == first.index
    assert (first.state, first.origin, first.fed) == ("live", "own", True)
    second = await world.synced()
    assert await world.live() == second.index
    before = await world.generation(first.id)
    assert (before.state, before.fed) == ("retired", True)
    assert before.retired_at is not None
    assert await rows(world) == [(0, "promotion", "moved"), (1, "promotion", "moved")]
    assert (await world.run(second.created_by)).from_generation == first.id


async def test_an_alias_on_a_foreign_index_is_taken_over_and_the_index_listed(world: World) -> None:
    world.foreign("old-catalog", ALIAS)
    mine = await world.synced()
    assert await world.live() == mine.index
    foreign = await world.generation("old-catalog")
    assert (foreign.state, foreign.origin, foreign.fed, foreign.stale_since) == ("retired", "foreign", False, None)
    moved = await world.rollback()
    assert (moved["to"], moved["stale_since"]) == (foreign.id, None)
    assert await world.live() == "old-catalog"
    await world.release()
    await world.synced()
    assert "old-catalog" in world.twin.indices


async def test_a_take_over_that_does_not_happen_lists_no_foreign_index(world: World) -> None:
    world.foreign("old-catalog", ALIAS)
    ledger, draft = await world.begun()
    world.foreign("other")

    async def somebody_moves_it() -> None:
        world.take("old-catalog")
        world.put("other")

    world.engine.before("move", somebody_moves_it)
    with pytest.raises(SwitchSpent) as refused:
        await ledger.promote(draft)
    assert refused.value.code == "alias_moved"
    with pytest.raises(NotFound):
        await world.generation("old-catalog")
    await ledger.abandon(draft, "dropped")
    await world.finish(ledger, "failed", refused.value)
    await world.synced()
    assert (await world.generation("other")).origin == "foreign"


async def test_a_run_takes_over_only_the_index_it_found_the_alias_on(world: World) -> None:
    world.foreign("old-catalog", ALIAS)
    world.foreign("other")
    ledger, draft = await world.begun()
    world.take("old-catalog")
    world.put("other")
    with pytest.raises(SwitchSpent) as refused:
        await ledger.promote(draft)
    assert refused.value.code == "alias_moved"
    assert [info.name for info in await world.engine.resolve(ALIAS)] == ["other"]


async def test_a_run_whose_alias_was_moved_meanwhile_moves_nothing_and_says_so(world: World) -> None:
    live = await world.synced()
    ledger, draft = await world.begun()
    world.foreign("elsewhere")
    world.take(live.index)
    world.put("elsewhere")
    with pytest.raises(SwitchSpent) as refused:
        await ledger.promote(draft)
    assert refused.value.code == "alias_moved"
    assert [info.name for info in await world.engine.resolve(ALIAS)] == ["elsewhere"]
    await ledger.abandon(draft, "dropped")
    assert (await world.finish(ledger, "failed", refused.value)).error["code"] == "alias_moved"
    world.take("elsewhere")
    world.put(live.index)
    await world.synced()


async def test_a_run_that_a_rollback_overtook_moves_nothing_and_says_so(world: World) -> None:
    first, _ = await world.synced(), await world.synced()
    ledger, draft = await world.begun()
    await world.rollback()
    with pytest.raises(SwitchSpent) as refused:
        await ledger.promote(draft)
    assert refused.value.code == "rolled_back_meanwhile"
    assert await world.live() == first.index


async def test_a_run_is_overtaken_even_when_the_alias_is_back_where_the_run_found_it(world: World) -> None:
    _, second = await world.synced(), await world.synced()
    ledger, draft = await world.begun()
    await world.rollback()
    await world.rollback(to=second.id)
    with pytest.raises(SwitchSpent) as refused:
        await ledger.promote(draft)
    assert refused.value.code == "rolled_back_meanwhile"
    assert await world.live() == second.index


async def test_a_run_that_was_only_queued_when_somebody_rolled_back_is_refused_at_its_beginning(world: World) -> None:
    await world.synced()
    await world.synced()
    await world.order()
    await world.rollback()
    ledger = await world.claim()
    assert [found["code"] for found in await ledger.alias_findings()] == ["rolled_back_meanwhile"]


@pytest.mark.parametrize("method", ["move", "resolve"])
@pytest.mark.parametrize("way", ["unheard", "unanswered"])
async def test_a_promotion_gets_through_lost_requests_and_lost_answers(world: World, method: str, way: str) -> None:
    await world.synced()
    ledger, draft = await world.begun()

    async def trouble() -> None:
        getattr(world.engine, way)(method, 2)

    if method == "move":
        await trouble()
    else:
        world.engine.before("move", trouble)
    await ledger.promote(draft)
    assert await world.live() == draft.index


async def test_a_promotion_that_broke_off_stays_open_and_the_run_cannot_end(world: World) -> None:
    live = await world.synced()
    ledger, draft = await world.begun()

    world.engine.dies("move")
    with pytest.raises(Died):
        await ledger.promote(draft)
    assert (await rows(world))[-1] == (1, "promotion", "open")
    with pytest.raises(Conflict):
        await world.finish(ledger, "failed", EngineUnavailable())
    with pytest.raises(Conflict):
        await ledger.abandon(draft, "dropped")
    assert (await world.generation(draft.generation)).state == "sealed"
    settled = await switches.settle(world.db, world.engine, world.name, give_up=True)
    assert settled.state == "burnt"
    assert await world.live() == live.index
    await ledger.abandon(draft, "dropped")
    assert (await world.finish(ledger, "failed", EngineUnavailable())).state == "failed"


async def test_an_engine_that_hangs_leaves_the_switch_open_and_says_so_in_time(world: World) -> None:
    await world.synced()
    ledger, draft = await world.begun()
    world.engine.dies("move")
    with pytest.raises(Died):
        await ledger.promote(draft)
    world.engine.before("move", anyio.sleep_forever)
    with pytest.raises(EngineUnavailable):
        await switches.settle(world.db, world.engine, world.name, patience=0.05)
    assert (await rows(world))[-1] == (1, "promotion", "open")


async def test_a_move_that_comes_late_finds_its_number_gone_even_when_the_alias_is_back(world: World) -> None:
    first, second = await world.synced(), await world.synced()
    late = Move(ALIAS, 1, first.index, first.index, second.index)
    await world.rollback()
    assert await world.live() == first.index
    with pytest.raises(SwitchSpent):
        await world.engine.move(late)
    assert await world.live() == first.index


async def test_settlers_and_the_run_itself_agree_whoever_comes_first(world: World) -> None:
    await world.synced()
    ledger, draft = await world.begun()
    answers = []

    async def promote() -> None:
        try:
            await ledger.promote(draft)
            answers.append("moved")
        except SwitchSpent:
            answers.append("burnt")

    async def settle(give_up: bool) -> None:
        await switches.settle(world.db, world.engine, world.name, give_up=give_up)

    async with anyio.create_task_group() as group:
        for work, *arguments in ((settle, True), (promote,), (settle, False), (settle, True)):
            group.start_soon(work, *arguments)
    state = (await rows(world))[-1][2]
    assert [state] == answers
    assert (await world.live() == draft.index) is (state == "moved")


async def test_a_draft_that_moved_cannot_be_abandoned_and_its_run_is_ready_whatever_follows(
    world: World,
) -> None:
    ledger, draft = await world.begun()
    await ledger.promote(draft)
    with pytest.raises(Conflict):
        await ledger.abandon(draft, "dropped")
    ended = await world.finish(ledger, "failed", EngineUnavailable("cleaning failed"))
    assert (ended.state, ended.error) == ("ready", None)


# --- rollback --------------------------------------------------------------------------------------------------------


async def test_rolling_back_twice_goes_back_twice_and_forward_again_is_asked_for_by_name(world: World) -> None:
    first, second, third = [await world.synced() for _ in range(3)]
    moved = await world.rollback()
    assert (moved["from"], moved["to"]) == (third.id, second.id)
    assert (await world.rollback())["to"] == first.id
    with pytest.raises(Conflict) as refused:
        await world.rollback()
    assert refused.value.code == "nothing_behind"
    assert await world.live() == first.index
    await world.rollback(to=third.id)
    assert await world.live() == third.index


async def test_back_is_what_the_live_one_replaced_not_what_was_rolled_back_before(world: World) -> None:
    first, bad = await world.synced(), await world.synced()
    await world.rollback()
    third = await world.synced(release=True)
    assert (await world.rollback())["to"] == first.id
    assert {(await world.generation(one.id)).state for one in (bad, third)} == {"retired"}


async def test_nothing_behind_is_said(world: World) -> None:
    for _ in range(2):
        with pytest.raises(Conflict) as refused:
            await world.rollback()
        assert refused.value.code == "nothing_behind"
        if await world.live() is None:
            await world.synced()


async def test_a_rollback_holds_the_catalogue_and_is_audited(world: World) -> None:
    await world.synced()
    await world.synced()
    moved = await world.rollback()
    assert await held(world)
    with pytest.raises(Conflict) as refused:
        await world.order("cron")
    assert refused.value.code == "held"
    async with world.db.reading() as session:
        (entry,), _ = await audit.listed(session)
    assert (entry.who, entry.act, entry.subject) == ("olga", "rollback", moved["to"])
    assert (await world.order(release=True)).state == "queued"


async def test_a_rollback_goes_only_to_what_is_kept_and_not_live(world: World) -> None:
    first, second = await world.synced(), await world.synced()
    _, draft = await world.begun()
    for to, code in ((second.id, "already_live"), (draft.generation, "not_kept")):
        with pytest.raises(Conflict) as refused:
            await world.rollback(to=to)
        assert refused.value.code == code
    with pytest.raises(NotFound):
        await world.rollback(to="nope")
    assert (await world.rollback(to=first.index))["to"] == first.id


async def test_beyond_the_window_only_with_stale_and_it_says_since_when(database_url: str) -> None:
    async with world_on(database_url, rollback_window=1) as world:
        first, second, _ = [await world.synced() for _ in range(3)]
        since = (await world.generation(first.id)).stale_since
        assert since is not None
        assert not (await world.generation(first.id)).fed
        with pytest.raises(Conflict) as refused:
            await world.rollback(to=first.id)
        assert (refused.value.code, refused.value.extra["stale_since"] is not None) == ("stale", True)
        assert (await world.rollback(to=first.id, stale=True))["stale_since"] == refused.value.extra["stale_since"]
        assert not (await world.generation(second.id)).fed, "it left the window when another one was retired"


async def test_a_rollback_gives_an_open_promotion_up(world: World) -> None:
    first, second = await world.synced(), await world.synced()
    ledger, draft = await world.begun()
    moved = {}

    async def somebody_rolls_back() -> None:
        moved.update(await world.rollback())

    world.engine.before("move", somebody_rolls_back)
    with pytest.raises(SwitchSpent) as refused:
        await ledger.promote(draft)
    assert refused.value.code == "rolled_back_meanwhile"
    assert (moved["from"], moved["to"]) == (second.id, first.id)
    assert await world.live() == first.index
    assert await rows(world) == [
        (0, "promotion", "moved"), (1, "promotion", "moved"), (2, "promotion", "burnt"), (3, "rollback", "moved"),
    ]  # fmt: skip


async def test_a_rollback_that_heard_no_answer_is_finished_by_the_next_one_not_repeated(world: World) -> None:
    _, second, _ = [await world.synced() for _ in range(3)]
    world.engine.dies("resolve", after="move")
    with pytest.raises(Died):
        await world.rollback()
    assert (await rows(world))[-1] == (3, "rollback", "open")
    with pytest.raises(Conflict) as refused:
        await world.order()
    assert refused.value.code == "switching"
    assert (await world.rollback())["to"] == second.id
    assert await world.live() == second.index
    assert await held(world)


async def test_an_open_rollback_to_another_place_is_given_up_first(world: World) -> None:
    first, second, third = [await world.synced() for _ in range(3)]
    world.engine.dies("move")
    with pytest.raises(Died):
        await world.rollback()
    moved = await world.rollback(to=first.id)
    assert (moved["from"], moved["to"]) == (third.id, first.id)
    assert [state for _, _, state in await rows(world)][-2:] == ["burnt", "moved"]
    assert second.id != moved["to"]


async def test_many_rollbacks_at_once_leave_one_live_generation(world: World) -> None:
    made = [await world.synced() for _ in range(4)]
    answers = []

    async def back() -> None:
        try:
            answers.append((await world.rollback(to=made[0].id))["to"])
        except Conflict as conflict:
            answers.append(conflict.code)

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(back)
    assert set(answers) <= {made[0].id, "already_live", "switch_spent"}, answers
    assert made[0].id in answers
    assert await world.live() == made[0].index
    assert sum(kind == "rollback" and state == "moved" for _, kind, state in await rows(world)) == 1


# --- where the alias stands ------------------------------------------------------------------------------------------


async def test_what_is_wrong_with_the_alias_is_found(world: World) -> None:
    assert await codes(world) == []
    world.foreign("a")
    world.foreign("b")
    world.put("a")
    world.put("b")
    assert await codes(world) == ["alias_ambiguous"]
    world.take("a")
    assert await codes(world) == []
    live = await world.synced()
    world.take(live.index, f"{ALIAS}.switch-1")
    assert await codes(world) == ["switch_lost"]
    world.put(live.index, f"{ALIAS}.switch-1")
    world.take(live.index)
    assert await codes(world) == ["alias_moved"]
    world.put("a")
    assert await codes(world) == ["alias_moved"]
    with pytest.raises(Conflict) as refused:
        await world.rollback()
    assert refused.value.code == "alias_moved"


@pytest.mark.parametrize(("narrowed", "found"), [(True, ["alias_filtered"]), (False, [])])
async def test_an_alias_with_a_filter_or_a_routing_is_found(narrowed: bool, found: list[str]) -> None:
    on = [IndexInfo("a", "u", 1, 0, {ALIAS: narrowed})]
    stand = aliases.Stand(ALIAS, 0, None, None, None, on)
    assert [finding["code"] for finding in aliases.findings(stand)] == found


async def test_an_alias_that_is_an_index_is_found(world: World) -> None:
    world.foreign(ALIAS)
    assert await codes(world) == ["alias_is_index"]


async def test_a_live_index_that_was_deleted_is_replaced_by_the_next_run(world: World) -> None:
    first, live = await world.synced(), await world.synced()
    await world.engine.drop(live.index)
    assert await codes(world) == []
    with pytest.raises(Conflict) as refused:
        await world.rollback()
    assert refused.value.code == "live_lost"
    again = await world.synced()
    assert await world.live() == again.index
    assert (await world.generation(live.id)).state == "dropped"
    assert (await world.generation(first.id)).state == "retired"


async def test_the_stand_is_looked_at_again_when_a_switch_comes_between(world: World) -> None:
    await world.synced()
    ledger, draft = await world.begun()

    async def it_moves() -> None:
        await ledger.promote(draft)

    world.engine.before("resolve", it_moves)
    stand = await aliases.look(world.db, world.engine, world.name)
    assert (stand.live.index, aliases.findings(stand)) == (draft.index, [])


# --- generations -----------------------------------------------------------------------------------------------------


async def test_index_names_are_the_alias_without_live_and_the_next_free_second(world: World) -> None:
    made = [await world.synced() for _ in range(4)]
    names = [generation.index for generation in made]
    assert len(set(names)) == 4
    assert names == sorted(names)
    assert all(name.startswith("rag-2") and len(name) == len("rag-20260102030405") for name in names)
    async with world.db.reading() as session:
        listed, _ = await generations.listed(session, world.name)
    assert [row.index for row in listed] == names[::-1]
    shown = generations.view(made[0])
    assert {"id", "index", "state", "origin", "documents", "embedder", "live_since", "fed", "stale_since"} <= set(shown)
    assert shown["created_at"].endswith("Z")


async def test_a_refused_draft_stays_until_the_next_run_builds(world: World) -> None:
    await world.order()
    ledger = await world.claim()
    draft = await world.build(ledger, REFUSED)
    await world.finish(ledger, "failed", Problem("refused"))
    kept = await world.generation(draft.generation)
    assert (kept.state, kept.fed) == ("refused", False)
    assert draft.index in world.twin.indices
    await world.order()
    await world.build(await world.claim(), PASSED)
    assert (await world.generation(draft.generation)).state == "dropped"
    assert draft.index not in world.twin.indices


async def test_of_the_retired_the_newest_are_kept_and_what_a_rollback_went_past(database_url: str) -> None:
    async with world_on(database_url, rollback_window=2, keep=2) as world:
        made = [await world.synced() for _ in range(5)]
        await world.rollback()
        async with world.db.writing() as session:
            catalogue = await catalogues.locked(session, world.name)
            gone = await retention.overdue(session, catalogue)
        assert [row.id for row in gone] == [made[0].id]
        states = [(await world.generation(one.id)).state for one in made]
        assert states == ["dropped", "retired", "retired", "live", "retired"]


async def test_every_state_that_rows_take_is_in_the_diagram() -> None:
    assert {"draft", *(state for following in generations.FOLLOWS.values() for state in following)} == set(
        generations.FOLLOWS
    )
    assert Generation.model_fields["state"].default == "draft"
