"""What the engine suites share: a small draft, some documents, and ways to read everything back."""

from collections.abc import Sequence

import numpy as np
import orjson

from app.sync.engine_port import Engine
from app.sync.words import Hit, Item, Line, Mark, Shape, Slice, Vectors

MARK = Mark("reshelve", "shop", "run-1", "gen-1", "recipe-1")
FIELDS = {"name": "text", "price": "double", "sku": "keyword", "stock": "boolean", "made": "date"}


def shape(dims: int = 8, **how: object) -> Shape:
    return Shape(FIELDS, dims, **how)  # type: ignore[arg-type]


def unit(count: int, dims: int = 8, seed: int = 1) -> Vectors:
    found = np.random.default_rng(seed).normal(size=(count, dims)).astype(np.float32)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def bodies(count: int) -> list[tuple[str, dict[str, object]]]:
    return [
        (f"p{n}", {"name": f"lamp {n}", "price": n * 1.5, "sku": f"S-{n}", "text": f"lamp number {n}"})
        for n in range(count)
    ]


def told(count: int) -> list[tuple[str, dict[str, object]]]:
    """Bodies that carry what columns tell of them."""
    return [
        (name, {**body, "source_id": name, "input_hash": f"input of {name}", "text_hash": f"text of {name}"})
        for name, body in bodies(count)
    ]


def delete_line(name: str, version: int) -> Line:
    how = {"_id": name, "version": version, "version_type": "external_gte"}
    return Line(name, orjson.dumps({"delete": how}), None)


def raw_line(name: str, body: bytes, version: int = 1) -> Line:
    how = {"_id": name, "version": version, "version_type": "external_gte"}
    return Line(name, orjson.dumps({"index": how}), body)


async def draft(engine: Engine, name: str, **how: object) -> str:
    """An index with one alias to fill it through."""
    await engine.create(name, shape(**how), [f"{name}.fill-1"], MARK)  # type: ignore[arg-type]
    return f"{name}.fill-1"


async def filled(engine: Engine, name: str, count: int, **how: object) -> Vectors:
    """A draft with *count* documents, visible to searches; their vectors."""
    fill = await draft(engine, name, **how)
    vectors = unit(count, int(how.get("dims", 8)))  # type: ignore[call-overload]
    assert taken(await engine.bulk(fill, engine.lines(bodies(count), vectors, 10)))
    await engine.refresh(name)
    return vectors


def taken(items: Sequence[Item]) -> bool:
    return all(item.error is None for item in items)


async def read(engine: Engine, pit: str, part: Slice, size: int, fields: Sequence[str] | None) -> list[Hit]:
    """Everything in one part of a point in time, page by page."""
    found: list[Hit] = []
    after = None
    while True:
        page = await engine.page(pit, part, after, size, fields)
        if not page.hits:
            return found
        assert len(page.hits) <= size
        assert page.size > 0
        found += page.hits
        after = page.cursor


async def ids(engine: Engine, index: str) -> set[str]:
    """All ids that a search sees."""
    pit = await engine.open_pit(index, 60)
    try:
        return {hit.id for hit in await read(engine, pit, Slice(0, 1), 100, [])}
    finally:
        await engine.close_pit(pit)
