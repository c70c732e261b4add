"""Everything there is to know at the end: the shop, each generation as the engine holds it, the database's rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlmodel import col, select

from app import generations, runs
from app.models import Catalogue, Event, Generation, Run, Switch
from app.spec import RecipeSpec
from app.sync.prepare import Preparer, body
from app.sync.words import Hit, ModelStamp, Page, Slice, Vectors
from tests.stack import Stack, ask

MOST = 10_000
"""Documents of one index: what one search returns."""


@dataclass(frozen=True)
class Stored:
    """One document as the engine holds it."""

    source: Mapping[str, Any]
    version: int
    vector: Vectors | None


@dataclass(frozen=True)
class Wanted:
    """One document as it should be; `fields` are all but the moment it was written."""

    fields: Mapping[str, Any]
    vector: Vectors


@dataclass
class Fed:
    """A generation that events reach: what it holds and what it should."""

    row: Generation
    stored: Mapping[str, Stored]
    wanted: Mapping[str, Wanted]


@dataclass
class Facts:
    """The end of a soak. `indices` are all on the engine that have a generation's name, with settings and aliases;
    `contexts` the points in time that are open, by index."""

    catalogue: Catalogue
    source: Mapping[str, Hit]
    fed: Sequence[Fed]
    generations: Sequence[Generation]
    events: Sequence[Event]
    runs: Sequence[Run]
    switches: Sequence[Switch]
    indices: Mapping[str, Any] = field(default_factory=dict)
    contexts: Mapping[str, int] = field(default_factory=dict)


async def gathered(here: Stack) -> Facts:
    """The facts, as they stand now."""
    async with here.db.reading() as session:
        catalogue = (await session.exec(select(Catalogue).where(col(Catalogue.name) == here.name))).one()
        rows = {
            table: (await session.exec(select(table).where(col(table.catalogue) == here.name))).all()
            for table in (Generation, Event, Run, Switch)
        }
        reached = await generations.fed(session, here.name)
    source = _shop(here)
    indices = ask(here.url, "GET", f"/{here.name}-2*")
    return Facts(
        catalogue=catalogue,
        source=source,
        fed=[await _fed(here, row, list(source.values()), catalogue.tenant) for row in reached],
        generations=rows[Generation],
        events=rows[Event],
        runs=sorted(rows[Run], key=lambda run: run.requested_at),
        switches=sorted(rows[Switch], key=lambda switch: switch.number),
        indices=indices,
        contexts=contexts(here),
    )


def _shop(here: Stack) -> Mapping[str, Hit]:
    """Every product, as somebody else reads the shop's index."""
    return {hit["_id"]: Hit(hit["_id"], hit["_source"]) for hit in _hits(here, here.shop.alias)}


def _hits(here: Stack, index: str) -> list[dict[str, Any]]:
    ask(here.url, "POST", f"/{index}/_refresh")
    found = ask(here.url, "GET", f"/{index}/_search?size={MOST}&version=true&track_total_hits=true")["hits"]
    assert found["total"]["value"] == len(found["hits"]), "more documents than one search returns"
    return list(found["hits"])


def contexts(here: Stack) -> Mapping[str, int]:
    """The points in time that are open now, by index: each generation's and the shop's."""
    indices = [*ask(here.url, "GET", f"/{here.name}-2*"), here.shop.alias]
    stats = {one: ask(here.url, "GET", f"/{one}/_stats/search") for one in indices}
    return {one: int(found["_all"]["total"]["search"]["open_contexts"]) for one, found in stats.items()}


async def _fed(here: Stack, row: Generation, hits: Sequence[Hit], tenant: str) -> Fed:
    target = await here.connections.engine(row.engine)
    held = {hit["_id"]: hit for hit in _hits(here, row.index)}
    ids, vectors = sorted(held), {}
    for start in range(0, len(ids), 500):
        vectors.update(await target.vectors(row.index, ids[start : start + 500]))
    stored = {one: Stored(hit["_source"], hit["_version"], vectors.get(one)) for one, hit in held.items()}
    return Fed(row, stored, await _wanted(here, row, hits, tenant))


async def _wanted(here: Stack, row: Generation, hits: Sequence[Hit], tenant: str) -> Mapping[str, Wanted]:
    """What the generation's own recipe makes of the shop, all of it anew."""
    recipe, made = RecipeSpec.model_validate(row.recipe), row.embedder or {}
    stamp = ModelStamp(made["model"], made["version"], made["dims"], made["normalized"])
    documents = Preparer(recipe).prepare(Page(Slice(0, 1), hits, None, 0)).documents
    vectors = (await here.connections.embedder(recipe.embedder).embed([one.text for one in documents])).vectors
    return {
        one.id: Wanted(body(one, stamp, tenant, recipe.lang, None), vectors[place])
        for place, one in enumerate(documents)
    }


def same_vector(one: Vectors | None, other: Vectors) -> bool:
    """Whether a stored vector is the one of the text."""
    return one is not None and one.shape == other.shape and bool(np.allclose(one, other, atol=1e-5))


def is_over(run: Run) -> bool:
    """Whether nothing happens to it any more."""
    return run.state in runs.OVER


def token(catalogue: Catalogue) -> str:
    """The alias that the live generation carries beside the one for readers."""
    return f"{catalogue.alias}.switch-{catalogue.switch_number}"
