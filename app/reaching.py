"""What the entries of a claim are applied with: source, engine, kept vectors, and the generations that are fed."""

from collections.abc import Collection
from functools import partial

from app import catalogues, claims, telemetry
from app.claims import Claim
from app.connections import Connections
from app.db import Database
from app.models import Generation
from app.spec import CatalogueSpec, IndexSource, RecipeSpec
from app.sync.apply import Fed, Reach, asking
from app.sync.sources.index import IndexSource as EngineSource
from app.sync.words import ModelStamp


def dependencies(spec: CatalogueSpec) -> tuple[str, str]:
    """The engine that a catalogue's generations are on, and its source, as breakers know them."""
    assert isinstance(spec.source, IndexSource)
    return f"engine:{spec.target.engine}", f"source:{spec.source.engine}/{spec.source.index}"


async def reach_of(db: Database, connections: Connections, claim: Claim, until: float) -> Reach:
    """What *claim* is applied with, *until* then. Raises `Problem` with the dependency in trouble."""
    spec = catalogues.spec_of(claim.catalogue)
    assert isinstance(spec.source, IndexSource)
    engine, origin = dependencies(spec)
    async with asking(engine):
        target = await connections.engine(spec.target.engine)
        store = await target.store()
    async with asking(origin):
        source = EngineSource(await connections.engine(spec.source.engine), spec.source.index)
    live = next((one.documents or 0 for one in claim.fed if one.state == "live"), 0)
    shrink = spec.policy.shrink
    return Reach(
        source=source,
        target=target,
        store=store,
        limits=connections.event_limits,
        figures=telemetry.EventFigures(),
        fed=[fed_of(connections, one, spec.tenant) for one in claim.fed],
        settle_seconds=spec.policy.settle_seconds,
        permit=partial(permit, db, claim, max(shrink.documents, int(live * shrink.percent / 100))),
        source_name=origin,
        target_name=engine,
        until=until,
    )


def fed_of(connections: Connections, generation: Generation, tenant: str) -> Fed:
    """A generation with its own recipe, and the model that made its vectors."""
    recipe, made = RecipeSpec.model_validate(generation.recipe), generation.embedder or {}
    stamp = ModelStamp(made["model"], made["version"], made["dims"], made.get("normalized", True))
    embedder = connections.guarded(recipe.embedder, stamp)
    return Fed(generation.id, generation.index, generation.state, recipe, tenant, embedder)


async def permit(db: Database, claim: Claim, most: int, ids: Collection[str]) -> Collection[str]:
    """`claims.permit` in a transaction of its own."""
    async with db.writing() as session:
        return await claims.permit(session, claim, ids, most)
