"""What would make a run fail after it has begun to build, looked for before, all of it: one small check a reason.

A check returns what it finds as `{"code", "detail"}`; where it cannot ask, it says why. What it needs and nobody could
find out makes it silent: whoever could not find it out has told. Nothing is built, changed or left behind.
"""

from dataclasses import dataclass, replace
from math import ceil

from anyio import to_thread

from app.errors import IndexMissing
from app.spec import CatalogueSpec, RecipeSpec
from app.sync import recipe as recipes
from app.sync.engine_port import Engine
from app.sync.limits import Limits, retrying
from app.sync.planning import Findings, asked, shape_of
from app.sync.ports import Embedder, Source
from app.sync.prepare import Preparer
from app.sync.words import Batch, ModelStamp, Room, Shape

SAMPLE = 50
READY_SECONDS = 8.0
"""How long a model that is busy for a moment is waited for."""

"""Products that are prepared to see whether any can be."""

SHOWN = 3
"""Rejects of the sample that a finding quotes."""

DIMENSION_BYTES = 14
"""Of a vector, for each of its dimensions: 4 as it is stored, up to 10 as text in `_source`."""

MERGING = 2
"""While a merge goes on, what it reads and what it has written are both there."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a run that may begin. `expected` is the bytes of the next generation's primaries."""

    spec: CatalogueSpec
    target: Engine
    live: str | None
    shape: Shape | None
    expected: int | None


async def findings(
    spec: CatalogueSpec, source: Source | None, target: Engine | None, embedder: Embedder | None, live: str | None
) -> Findings:
    """Everything that is wrong. *live* is the index behind the alias; what could not even be opened is None."""
    found: Findings = []
    recipe = await asked(_resolved(spec, source), found) if source else None
    products = await asked(source.count(), found) if source and recipe else None
    sample = await asked(_prepared(source, recipe), found) if source and recipe and products else None
    found += _of_sample(sample) if sample else []
    if target is not None:
        stamp = await asked(embedder.ready(), found) if embedder else None
        shape = _shape(spec, recipe, stamp, products or 0)
        expected = await asked(_expected(target, live, shape, products, sample), found)
        seen = Seen(spec, target, live, shape, expected)
        for check in (_of_rights, _of_shape, _of_room):
            found += await asked(check(seen), found) or []
    return found


async def _resolved(spec: CatalogueSpec, source: Source) -> RecipeSpec:
    return recipes.resolve(spec.recipe, await source.properties())


def _shape(spec: CatalogueSpec, recipe: RecipeSpec | None, stamp: ModelStamp | None, products: int) -> Shape | None:
    """Of the draft; while the model does not answer, with the dims that are declared."""
    if stamp is None and (dims := spec.recipe.embedder.dims):
        stamp = ModelStamp("", "", dims)
    return shape_of(spec, recipe, stamp, products) if recipe and stamp else None


# --- products --------------------------------------------------------------------------------------------------------


async def _prepared(source: Source, recipe: RecipeSpec) -> Batch:
    """The first products of the source as they would be prepared. Raises `Invalid` for a recipe that cannot work."""
    preparer = Preparer(recipe)
    page = await source.sample(SAMPLE, preparer.wanted)
    return await to_thread.run_sync(preparer.prepare, page)


def _of_sample(sample: Batch) -> Findings:
    """Products that a rule leaves out prove nothing; those that the recipe cannot take do, when there is no other."""
    unfit = [reject for reject in sample.rejects if reject.by == "data"]
    if sample.documents or not unfit:
        return []
    quoted = "; ".join(f"{reject.product_id}: {reject.detail}" for reject in unfit[:SHOWN])
    why = f"None of the first {sample.read} products can become a document ({quoted}): correct template and fields."
    return [_finding("sample_rejected", why)]


# --- engine ----------------------------------------------------------------------------------------------------------


async def _of_rights(seen: Seen) -> Findings:
    alias = seen.spec.target.alias
    denied = await seen.target.denied(alias.removesuffix("-live"), alias, seen.live)
    return [_finding(problem.code, problem.detail) for problem in denied]


async def _of_shape(seen: Seen) -> Findings:
    """Raises what the engine has against an index like the draft; an analyser that it lacks is `standard` in a run."""
    if shape := seen.shape:
        own = shape.analyzer == "standard" or await seen.target.analyses(shape)
        await seen.target.accepts(shape if own else replace(shape, analyzer="standard"))
    return []


async def _of_room(seen: Seen) -> Findings:
    room = await seen.target.room()
    shards = seen.spec.target.shards * (1 + seen.spec.target.replicas)
    found = []
    if room.shards is not None and shards > room.shards:
        why = f"The next generation has {shards} shards, and the cluster opens {max(room.shards, 0)} more: delete "
        found.append(_finding("shards", why + "indices, declare fewer shards or replicas, or add data nodes."))
    if seen.expected is not None and room.free is not None and room.total is not None:
        need, reserve = _share(seen, room), await seen.target.reserve(room.total)
        if need > room.free - reserve:
            why = f"The next generation takes about {_size(need)} on a data node, merge included; the fullest has "
            cure = f"{_size(room.free)} free, {_size(reserve)} of which must stay free: free space on it or add nodes."
            found.append(_finding("disk", why + cure))
    return found


async def _expected(
    target: Engine, live: str | None, shape: Shape | None, products: int | None, sample: Batch | None
) -> int | None:
    """As much as the live one; without one, what the sample lets expect."""
    try:
        if live is not None:
            return (await target.search_stats(live))["bytes"]
    except IndexMissing:
        pass
    if not shape or not products or not sample or not sample.read:
        return None
    return int(products * (sample.size / sample.read + shape.dims * DIMENSION_BYTES))


def _share(seen: Seen, room: Room) -> int:
    """What one data node has to hold: copies of a shard never share one, and those that find none take no room."""
    shards, nodes = seen.spec.target.shards, max(room.nodes, 1)
    copies = min(1 + seen.spec.target.replicas, nodes)
    assert seen.expected is not None
    return ceil(ceil(shards * copies / nodes) / shards * seen.expected * MERGING)


def _size(count: int) -> str:
    return f"{max(count, 0) / 2**20:,.0f} MiB"


def _finding(code: str, detail: str) -> dict[str, str]:
    return {"code": code, "detail": detail}


async def answering(embedder: Embedder, limits: Limits) -> ModelStamp:
    """Its stamp, once it answers: one that says to come back soon is asked again."""
    budget, patience = limits.embedding_budget, limits.patience
    return await retrying(embedder.ready, deadline=READY_SECONDS, budget=budget, patience=patience)
