"""Kept vectors: over the twin and every real engine."""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import anyio
import numpy as np
import orjson
import pytest

from app.config import EngineSettings
from app.errors import EngineError
from app.sync.engine_port import Engine, VectorStore
from app.sync.engines import open_engine
from app.sync.engines.memory import MemoryEngine
from app.sync.engines.store import Store
from app.sync.engines.wire import Ask
from app.sync.engines.writing import Writing
from app.sync.words import Vectors
from tests.contract.conftest import REAL
from tests.contract.engine_kit import MARK, shape, unit

pytestmark = pytest.mark.anyio

LATER = 4_000_000_000.0
"""Seconds since the epoch: long after everything that is kept now."""


@pytest.fixture
async def engine(engine_home: str) -> AsyncIterator[Engine]:
    """One that keeps its vectors where no other test does."""
    index = f"v{uuid4().hex[:12]}"
    opened = await open_engine(EngineSettings(url=engine_home, vectors=index)) if engine_home else MemoryEngine()
    yield opened
    await opened.drop(index)
    await opened.close()


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.engine) for name in REAL])
def engine_home_real(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
async def real(engine_home_real: str) -> AsyncIterator[Writing]:
    """A real one, whose index of vectors tests look into or take away."""
    index = f"v{uuid4().hex[:12]}"
    opened = await open_engine(EngineSettings(url=engine_home_real, vectors=index))
    assert isinstance(opened, Writing)
    yield opened
    await opened.drop(index)
    await opened.close()


def keys(count: int, prefix: str = "k") -> list[str]:
    return [f"{prefix}{number:063x}" for number in range(count)]


async def remembered(store: VectorStore, names: list[str], dims: int = 8) -> set[str]:
    return set(await store.known(names, dims))


@pytest.mark.parametrize(("dims", "count"), [(256, 1200), (1536, 700)])
async def test_vectors_come_back_bit_by_bit(engine: Engine, dims: int, count: int) -> None:
    store, names, sent = await engine.store(), keys(count), unit(count, dims)
    sent[0, :3] = np.float32(-0.0), np.float32(1e-42), np.finfo(np.float32).max
    assert await store.known(names, dims) == {}
    await store.keep(names, sent)
    found = await store.known([*names, "nobody"], dims)
    assert set(found) == set(names)
    for name, row in zip(names, sent, strict=True):
        assert (found[name].shape, found[name].dtype) == ((dims,), np.float32)
        assert found[name].tobytes() == row.tobytes()
    assert await store.size() == count


async def test_equal_keys_are_one_and_the_last_counts(engine: Engine) -> None:
    store, sent = await engine.store(), unit(3)
    await store.keep(["a", "b", "a"], sent)
    await store.keep(["b"], sent[:1])
    found = await store.known(["a", "b", "a"], 8)
    assert {name: row.tobytes() for name, row in found.items()} == {"a": sent[2].tobytes(), "b": sent[0].tobytes()}
    assert await store.size() == 2


async def test_vectors_of_other_dims_are_damaged(engine: Engine) -> None:
    store = await engine.store()
    await store.keep(["a"], unit(1, 8))
    assert await remembered(store, ["a"], 16) == set()
    assert await remembered(store, ["a"], 4) == set()
    assert await remembered(store, ["a"], 8) == {"a"}


async def test_nothing_is_kept_of_nothing(engine: Engine) -> None:
    store = await engine.store()
    assert await store.known([], 8) == {}
    await store.keep([], np.empty((0, 8), np.float32))
    await store.used(["nobody"], LATER)
    assert (await store.size(), await store.aged(LATER, 9)) == (0, [])


async def test_what_nobody_used_is_told_oldest_first_and_may_be_forgotten(engine: Engine) -> None:
    store, names = await engine.store(), keys(10)
    await store.keep(names, unit(10))
    for at, name in enumerate(reversed(names[:4])):
        await store.used([name, "nobody"], 1000 + at)
    assert await store.aged(1000, 100) == []
    assert await store.aged(1003, 100) == [names[3], names[2], names[1]]
    assert await store.aged(LATER, 2) == [names[3], names[2]]
    await store.forget([names[3], names[0], "nobody"])
    assert await remembered(store, names) == {*names[1:3], *names[4:]}
    assert await store.aged(1003, 100) == [names[2], names[1]]
    assert await store.size() == 8


# --- real engines only -----------------------------------------------------------------------------------------------


async def asked(engine: Writing, method: str, path: str, body: Any = None) -> Any:
    """A request of somebody else."""
    return (await engine._wire.ask(Ask("do as it is told", method, path, body=body))).body


def again(store: Store) -> Store:
    """The store of another process, which has seen nothing yet."""
    return replace(store, seen=float("-inf"))


DAMAGED: dict[str, Any] = {
    "short": base64.b64encode(np.ones(7, "<f4").tobytes()).decode(),
    "odd": base64.b64encode(b"\x00" * 33).decode(),
    "nan": base64.b64encode(np.full(8, np.nan, "<f4").tobytes()).decode(),
    "infinite": base64.b64encode(np.full(8, np.inf, "<f4").tobytes()).decode(),
    "empty": "",
}


async def test_a_damaged_vector_is_left_out_and_kept_anew(real: Writing) -> None:
    store = await real.store()
    await store.keep(["sound"], unit(1))
    for name, vector in {**DAMAGED, "none": None}.items():
        await asked(real, "PUT", f"/{store.index}/_doc/{name}", {"vector": vector, "used_at": 5})
    await asked(real, "PUT", f"/{store.index}/_doc/bare", {})
    names = [*DAMAGED, "none", "bare", "sound"]
    assert await remembered(store, names) == {"sound"}
    await store.keep(names, unit(len(names)))
    assert await remembered(store, names) == set(names)


async def test_two_who_make_the_index_are_both_served(real: Writing) -> None:
    store = await real.store()

    async def keep(name: str, sent: Vectors) -> None:
        await again(store).keep([name], sent)

    async with anyio.create_task_group() as group:
        for name in keys(4):
            group.start_soon(keep, name, unit(1))
    assert await remembered(store, keys(4)) == set(keys(4))


async def test_the_index_says_that_it_is_ours_and_takes_nothing_else(real: Writing) -> None:
    store = await real.store()
    await store.keep(["a"], unit(1))
    mapping = (await asked(real, "GET", f"/{store.index}/_mapping"))[store.index]["mappings"]
    assert mapping["_meta"] == {"reshelve": {"store": 1}}
    assert mapping["dynamic"] == "false"
    assert mapping["properties"] == {"vector": {"type": "binary"}, "used_at": {"type": "long"}}
    source = (await asked(real, "GET", f"/{store.index}/_doc/a"))["_source"]
    assert source["vector"] == base64.b64encode(unit(1).astype("<f4").tobytes()).decode()


async def test_an_index_that_goes_is_empty_and_made_anew(real: Writing) -> None:
    store, sent = await real.store(), unit(2)
    await store.keep(["a", "b"], sent)
    await real.drop(store.index)
    assert await store.known(["a", "b"], 8) == {}
    assert (await store.size(), await store.aged(LATER, 9)) == (0, [])
    await store.used(["a"], LATER)
    assert await real.resolve(store.index) == []
    await store.keep(["a"], sent[:1])
    assert await remembered(store, ["a", "b"]) == {"a"}


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.size(),
        lambda store: store.used(["a"], 5),
        lambda store: store.aged(LATER, 9),
        lambda store: store.forget(["a"]),
    ],
    ids=["size", "used", "aged", "forget"],
)
async def test_an_index_that_has_just_been_seen_may_go(real: Writing, call: Callable[[Store], Awaitable[Any]]) -> None:
    store = await real.store()
    await store.keep(["a"], unit(1))
    await real.drop(store.index)
    assert not await call(store)


async def test_nothing_is_kept_where_the_index_has_just_gone(real: Writing) -> None:
    store = await real.store()
    await store.keep(["a"], unit(1))
    await real.drop(store.index)
    with pytest.raises(EngineError) as refused:
        await store.keep(["b"], unit(1))
    assert refused.value.transient, "the next try makes the index"
    await store.keep(["b"], unit(1))
    assert await remembered(store, ["a", "b"]) == {"b"}


async def test_an_index_of_somebody_else_is_left_alone(real: Writing) -> None:
    store = await real.store()
    await real.create(store.index, shape(), [], MARK)
    for call in (store.known(["a"], 8), store.keep(["a"], unit(1)), store.size(), store.aged(LATER, 9)):
        with pytest.raises(EngineError) as refused:
            await call
        assert refused.value.code == "vector_store"
    await real.refresh(store.index)
    assert await real.counted(store.index, []) == 0


async def test_keys_may_be_anything(real: Writing) -> None:
    store = await real.store()
    names = ['a "quoted" one', "ü", "a\\b"]
    await store.keep(names, unit(3))
    assert orjson.dumps(sorted(await remembered(store, names))) == orjson.dumps(sorted(names))
