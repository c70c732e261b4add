"""Two generations side by side: the same queries put to both, each embedded with the model of the one it is put to.

On the left is the catalogue's live generation; on the right what `with` names: another catalogue, whose live generation
is taken, or a generation of any catalogue. So a recipe or a model that is tried in a catalogue of its own is looked at
beside the one that it is to replace, before anything of that is changed.

A side whose model does not answer is searched by words and says so (`degraded_by`): its lists are no proof then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

from anyio import CancelScope, move_on_after
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlmodel import col, select

from app import catalogues, generations
from app.db import Database, ReadSession
from app.errors import Conflict, EmbedderError, Invalid, NotFound
from app.models import Catalogue, Generation
from app.search.asking import Ask, Mode
from app.search.find import Vector, embedded, hits, searchable, told
from app.sync.engine_port import Engine
from app.sync.ranking import drawn, overlap, rank_moves
from app.sync.words import Scored, Slice

if TYPE_CHECKING:
    from app.connections import Connections

EMBED_SECONDS = 20.0
"""How long a model may take for all queries of a comparison."""

MOST_QUERIES, LONGEST_QUERY = 50, 2000

NAMES = 500
"""Products whose names are looked at when queries are drawn from them."""

Query = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_QUERY)]


class Comparison(BaseModel):
    """What is compared, by which queries: by default those of the policy, else some product names."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    other: str = Field(alias="with", min_length=1, max_length=255)
    queries: list[Query] | None = Field(None, min_length=1, max_length=MOST_QUERIES)
    mode: Mode = "vector"
    k: int = Field(10, ge=1, le=100)


async def compare(db: Database, connections: "Connections", name: str, wanted: Comparison) -> Mapping[str, Any]:
    """Both result lists of each query with their overlap and the ranks that moved, and the mean overlap of all.

    Raises `NotFound` for what `with` does not name, `Conflict` with code `no_live_generation` or `not_searchable`,
    `Invalid` when there are no queries, `EngineError`.
    """
    async with db.reading() as session:
        catalogue = await catalogues.get(session, name)
        ours, theirs = await _live(session, name), await _other(session, name, wanted.other)
    queries, origin = await _queries(connections, catalogue, ours, wanted)
    left = await _asked(connections, ours, wanted, queries)
    right = await _asked(connections, theirs, wanted, queries)
    rows = [_row(*row) for row in zip(queries, left.lists, right.lists, strict=True)]
    return {
        "left": left.view(),
        "right": right.view(),
        "k": wanted.k,
        "queries_from": origin,
        "overlap": fmean(row["overlap"] for row in rows),
        "queries": rows,
    }


# --- which two -------------------------------------------------------------------------------------------------------


async def _live(session: ReadSession, name: str) -> Generation:
    if found := await generations.live(session, name):
        return found
    raise Conflict(f"Catalogue {name} has no live generation yet: sync it first.", code="no_live_generation")


async def _other(session: ReadSession, name: str, wanted: str) -> Generation:
    """The live generation of another catalogue, or a generation by its id or index, of *name* rather than of others."""
    catalogue = await session.get(Catalogue, wanted)
    if catalogue is not None and wanted != name:
        return await _live(session, wanted)
    named = (col(Generation.id) == wanted) | (col(Generation.index) == wanted)
    found = (await session.exec(select(Generation).where(named))).all()
    if not found:
        raise NotFound(f"There is neither another catalogue nor a generation {wanted[:80]!r} to compare with.")
    return searchable(min(found, key=lambda one: (one.catalogue != name, one.id)))


# --- which queries ---------------------------------------------------------------------------------------------------


async def _queries(
    connections: "Connections", catalogue: Catalogue, live: Generation, wanted: Comparison
) -> tuple[Sequence[str], str]:
    """The queries, and where they are from: `request`, `policy` or `names`."""
    if wanted.queries:
        return wanted.queries, "request"
    declared = catalogues.spec_of(catalogue).policy.queries
    if usable := [query.strip()[:LONGEST_QUERY] for query in declared if query.strip()][:MOST_QUERIES]:
        return usable, "policy"
    if names := drawn(await _names(await connections.engine(live.engine), live.index)):
        return names, "names"
    raise Invalid(
        "There is nothing to draw queries from: say which.", errors=[{"where": "body.queries", "why": "none"}]
    )


async def _names(engine: Engine, index: str) -> list[str]:
    """Some products' names, the first line of their text where a recipe has no names."""
    pit = await engine.open_pit(index, 60)
    try:
        page = await engine.page(pit, Slice(0, 1), None, NAMES, ["name", "text"])
    finally:
        with CancelScope(shield=True), move_on_after(5):
            await engine.close_pit(pit)
    return [str(hit.source.get("name") or str(hit.source.get("text") or "").partition("\n")[0]) for hit in page.hits]


# --- both lists ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Side:
    """One generation's answers, one list a query."""

    generation: Generation
    mode: Mode
    lists: Sequence[Sequence[Scored]]
    trouble: EmbedderError | None

    def view(self) -> dict[str, Any]:
        """Which generation answered, and how."""
        names = ("catalogue", "id", "index", "state", "documents", "embedder")
        shown = {name: getattr(self.generation, name) for name in names}
        shown["generation"] = shown.pop("id")
        return shown | {"mode": self.mode, "degraded_by": told(self.trouble)}


async def _asked(
    connections: "Connections", generation: Generation, wanted: Comparison, queries: Sequence[str]
) -> Side:
    vectors: Sequence[Vector | None] | None = None
    trouble = None
    if wanted.mode != "lexical":
        vectors, trouble = await embedded(connections, generation, queries, EMBED_SECONDS)
    engine = await connections.engine(generation.engine)
    lists = [
        await hits(engine, generation.index, Ask(query=query, mode=wanted.mode, k=wanted.k), vector)
        for query, vector in zip(queries, vectors or [None] * len(queries), strict=True)
    ]
    return Side(generation, wanted.mode if vectors else "lexical", lists, trouble)


def _row(query: str, left: Sequence[Scored], right: Sequence[Scored]) -> dict[str, Any]:
    ours, theirs = [hit.id for hit in left], [hit.id for hit in right]
    moves = rank_moves(ours, theirs)
    return {
        "query": query,
        "overlap": overlap(ours, theirs),
        "moved": [{"id": product, "left": was, "right": now} for product, (was, now) in moves.items()],
        "left": [_hit(hit) for hit in left],
        "right": [_hit(hit) for hit in right],
    }


def _hit(hit: Scored) -> dict[str, Any]:
    return {"id": hit.id, "score": hit.score, "name": hit.source.get("name")}
