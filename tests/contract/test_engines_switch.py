"""Aliases: swapped, moved by number, burnt. Over the twin and every real engine."""

import anyio
import pytest

from app.errors import EngineError, IndexMissing, Problem, SwitchSpent
from app.sync.engine_port import Engine
from app.sync.words import Move
from tests.contract.engine_kit import MARK, draft, shape

pytestmark = pytest.mark.anyio


async def standing(engine: Engine, alias: str) -> list[str]:
    return [info.name for info in await engine.resolve(alias)]


async def first(engine: Engine, name: str) -> tuple[str, str]:
    """A live index under an alias, by a first switch; alias and index."""
    alias, index = f"{name}-live", f"{name}-1"
    await engine.create(index, shape(), [f"{alias}.switch-0"], MARK)
    await engine.move(Move(alias, 0, index, None, index))
    return alias, index


async def test_a_swap_happens_once(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    await engine.swap_alias(name, fill, f"{name}.fill-2")
    assert set((await engine.resolve(name))[0].aliases) == {f"{name}.fill-2"}
    with pytest.raises(SwitchSpent):
        await engine.swap_alias(name, fill, f"{name}.fill-3")
    assert set((await engine.resolve(name))[0].aliases) == {f"{name}.fill-2"}


async def test_a_swap_needs_its_index(engine: Engine, name: str) -> None:
    with pytest.raises((IndexMissing, SwitchSpent)):
        await engine.swap_alias(name, "a", "b")


async def test_the_first_switch_creates_the_alias(engine: Engine, name: str) -> None:
    alias, index = await first(engine, name)
    assert await standing(engine, alias) == [index]
    assert await standing(engine, f"{alias}.switch-0") == []
    assert await standing(engine, f"{alias}.switch-1") == [index]


async def test_a_number_serves_once(engine: Engine, name: str) -> None:
    alias, index = await first(engine, name)
    await draft(engine, f"{name}-2")
    move = Move(alias, 1, index, index, f"{name}-2")
    await engine.move(move)
    assert await standing(engine, alias) == [f"{name}-2"]
    assert await standing(engine, move.next_token) == [f"{name}-2"]
    with pytest.raises(SwitchSpent):
        await engine.move(move)
    assert await standing(engine, alias) == [f"{name}-2"]


async def test_a_late_move_is_refused_although_the_alias_is_back(engine: Engine, name: str) -> None:
    alias, index = await first(engine, name)
    await draft(engine, f"{name}-2")
    late = Move(alias, 1, index, index, f"{name}-2")
    await engine.move(late)
    await engine.move(Move(alias, 2, f"{name}-2", f"{name}-2", index))
    with pytest.raises(SwitchSpent):
        await engine.move(late)
    assert await standing(engine, alias) == [index]


async def test_a_move_that_finds_the_alias_elsewhere_changes_nothing(engine: Engine, name: str) -> None:
    alias, index = await first(engine, name)
    await draft(engine, f"{name}-2")
    await draft(engine, f"{name}-3")
    with pytest.raises(SwitchSpent):
        await engine.move(Move(alias, 1, index, f"{name}-2", f"{name}-3"))
    assert await standing(engine, alias) == [index]
    assert await standing(engine, f"{alias}.switch-1") == [index]


async def test_a_move_to_nowhere_changes_nothing(engine: Engine, name: str) -> None:
    alias, index = await first(engine, name)
    with pytest.raises(SwitchSpent):
        await engine.move(Move(alias, 1, index, index, f"{name}-none"))
    assert await standing(engine, alias) == [index]
    assert await standing(engine, f"{alias}.switch-1") == [index]


async def test_the_first_switch_loses_against_an_alias_that_is_there(engine: Engine, name: str) -> None:
    alias, index = await first(engine, name)
    await engine.create(f"{name}-2", shape(), [f"{alias}.switch-0"], MARK)
    with pytest.raises(SwitchSpent):
        await engine.move(Move(alias, 0, f"{name}-2", None, f"{name}-2"))
    assert await standing(engine, alias) == [index]


async def test_an_alias_is_taken_over_from_an_index_that_is_not_ours(engine: Engine, name: str) -> None:
    alias, index = f"{name}-live", f"{name}-2"
    await engine.create(f"{name}-1", shape(), [alias], MARK)
    await engine.create(index, shape(), [f"{alias}.switch-0"], MARK)
    await engine.move(Move(alias, 0, index, f"{name}-1", index))
    assert await standing(engine, alias) == [index]
    assert await standing(engine, f"{alias}.switch-1") == [index]


async def test_a_burnt_number_moves_nothing_any_more(engine: Engine, name: str) -> None:
    alias, index = await first(engine, name)
    await draft(engine, f"{name}-2")
    await engine.burn(alias, 1, index)
    assert await standing(engine, f"{alias}.switch-2") == [index]
    with pytest.raises(SwitchSpent):
        await engine.move(Move(alias, 1, index, index, f"{name}-2"))
    with pytest.raises(SwitchSpent):
        await engine.burn(alias, 1, index)
    assert await standing(engine, alias) == [index]


async def test_an_index_that_has_the_aliass_name_is_told(engine: Engine, name: str) -> None:
    await draft(engine, f"{name}-live")
    await engine.create(f"{name}-1", shape(), [f"{name}-live.switch-0"], MARK)
    with pytest.raises(EngineError):
        await engine.move(Move(f"{name}-live", 0, f"{name}-1", None, f"{name}-1"))
    assert set((await engine.resolve(f"{name}-1"))[0].aliases) == {f"{name}-live.switch-0"}


async def test_of_two_racers_for_a_new_alias_one_wins(engine: Engine, name: str) -> None:
    alias = f"{name}-live"
    outcomes: list[str] = []

    async def race(index: str) -> None:
        try:
            await engine.move(Move(alias, 0, index, None, index))
            outcomes.append("won")
        except Problem as problem:
            outcomes.append(problem.code)

    for number in (1, 2):
        await engine.create(f"{name}-{number}", shape(), [f"{alias}.switch-0"], MARK)
    async with anyio.create_task_group() as group:
        group.start_soon(race, f"{name}-1")
        group.start_soon(race, f"{name}-2")
    assert sorted(outcomes) == ["switch_spent", "won"]
    assert len(await standing(engine, alias)) == 1
