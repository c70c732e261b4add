"""A shop's own index as a source. Over the twin and every real engine."""

import anyio
import pytest

from app.errors import SourceGone, SourceUnresolved
from app.sync.engine_port import Engine
from app.sync.ports import Look
from app.sync.sources.index import IndexSource
from tests.contract.engine_kit import MARK, bodies, draft, filled, shape, unit

pytestmark = pytest.mark.anyio


async def unheard(_pit: str, _look: Look) -> None:
    return


async def contexts(engine: Engine, index: str) -> int:
    return (await engine.search_stats(index))["open_contexts"]


async def test_a_source_is_pinned_to_one_index(engine: Engine, name: str) -> None:
    await filled(engine, name, 7, shards=2)
    source = IndexSource(engine, f"{name}.fill-1")
    look = await source.look()
    assert (look.index, look.primaries) == (name, 2)
    assert await source.count() == 7
    assert (await source.properties())["price"]["type"] == "double"
    assert await contexts(engine, name) == 0


async def test_nothing_and_too_much_are_unresolved(engine: Engine, name: str) -> None:
    with pytest.raises(SourceUnresolved):
        await IndexSource(engine, name).look()
    for number in (1, 2):
        await engine.create(f"{name}-{number}", shape(), [f"{name}-both"], MARK)
    with pytest.raises(SourceUnresolved, match=f"{name}-1, {name}-2"):
        await IndexSource(engine, f"{name}-both").look()


@pytest.mark.parametrize(("shards", "slices"), [(1, 2), (3, 2), (2, 1)])
async def test_a_snapshot_is_read_once_and_whole(engine: Engine, name: str, shards: int, slices: int) -> None:
    await filled(engine, name, 450, shards=shards)
    async with IndexSource(engine, name).snapshot(slices, unheard) as snapshot:
        assert snapshot.count == 450
        assert len(snapshot.parts) == slices
        found = [hit.id for part in snapshot.parts async for page in snapshot.pages(part, []) for hit in page.hits]
        assert [hit.source for hit in await snapshot.get(["p9", "none"], ["name"])] == [{"name": "lamp 9"}]
        await snapshot.check()
    assert len(found) == 450
    assert set(found) == {name for name, _ in bodies(450)}


async def test_a_snapshot_sees_what_was_written_just_before(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    await engine.bulk(fill, engine.lines(bodies(3), unit(3), 1))
    async with IndexSource(engine, name).snapshot(1, unheard) as snapshot:
        assert snapshot.count == 3


async def test_the_id_of_a_point_in_time_is_told_before_it_is_used(engine: Engine, name: str) -> None:
    await filled(engine, name, 3)
    told: list[tuple[str, str]] = []

    async def opened(pit: str, look: Look) -> None:
        told.append((pit, look.index))

    async with IndexSource(engine, name).snapshot(1, opened):
        assert [index for _, index in told] == [name]
        assert await contexts(engine, name) == 1
    assert await contexts(engine, name) == 0


async def test_it_is_closed_when_an_error_leaves(engine: Engine, name: str) -> None:
    await filled(engine, name, 3)
    with pytest.raises(ZeroDivisionError):
        async with IndexSource(engine, name).snapshot(1, unheard):
            raise ZeroDivisionError
    assert await contexts(engine, name) == 0


async def test_it_is_closed_when_telling_its_id_fails(engine: Engine, name: str) -> None:
    async def opened(pit: str, look: Look) -> None:
        raise ZeroDivisionError

    await filled(engine, name, 3)
    with pytest.raises(ZeroDivisionError):
        async with IndexSource(engine, name).snapshot(1, opened):
            pass
    assert await contexts(engine, name) == 0


async def test_it_is_closed_when_the_run_is_cancelled(engine: Engine, name: str) -> None:
    await filled(engine, name, 3)
    with anyio.CancelScope() as scope:
        async with IndexSource(engine, name).snapshot(1, unheard):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert await contexts(engine, name) == 0


async def test_a_source_that_is_recreated_under_its_name_is_gone(engine: Engine, name: str) -> None:
    await filled(engine, name, 3)
    async with IndexSource(engine, name).snapshot(1, unheard) as snapshot:
        await engine.drop(name)
        await filled(engine, name, 3)
        with pytest.raises(SourceGone):
            await snapshot.check()


async def test_a_source_whose_alias_moves_on_is_gone(engine: Engine, name: str) -> None:
    await filled(engine, f"{name}-1", 3)
    alias = f"{name}-1.fill-1"
    async with IndexSource(engine, alias).snapshot(1, unheard) as snapshot:
        await engine.swap_alias(f"{name}-1", alias, f"{name}-other")
        with pytest.raises(SourceGone):
            await snapshot.check()


async def test_a_source_that_is_deleted_while_it_is_read_is_gone(engine: Engine, name: str) -> None:
    await filled(engine, name, 300)
    async with IndexSource(engine, name).snapshot(1, unheard) as snapshot:
        pages = snapshot.pages(snapshot.parts[0], [])
        assert (await anext(pages)).hits
        await engine.drop(name)
        with pytest.raises(SourceGone):
            await anext(pages)
