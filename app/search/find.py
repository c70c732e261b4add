"""One search, from the question to the hits."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import structlog

from app import catalogues, generations
from app.db import Database, ReadSession
from app.errors import Conflict, EmbedderError, EmbedderUnavailable
from app.models import Generation
from app.search.asking import Ask, Mode
from app.search.filters import clauses
from app.spec import EmbedderSpec
from app.sync.engine_port import Target
from app.sync.words import Scored

if TYPE_CHECKING:
    from app.connections import Connections

QUERY_SECONDS = 5.0
"""How long the model may take for one query; then the words are searched."""

WINDOW = 50
"""Hits of each kind that are fused, at least."""

RANK_CONSTANT = 60
"""Of reciprocal rank fusion, from Cormack, Clarke and Büttcher (SIGIR 2009)."""

Vector = Sequence[float]

log = structlog.get_logger("reshelve.search")


async def find(db: Database, connections: "Connections", name: str, ask: Ask) -> dict[str, Any]:
    """Answer *ask* for catalogue *name*: `{"hits", "mode", "generation", "degraded"}`, hits by falling score.

    Raises `NotFound`, `Invalid` for a filter, `Conflict` for a generation that cannot be searched, `EngineError`.
    """
    ask.check()
    async with db.reading() as session:
        catalogue = await catalogues.get(session, name)
        generation = await _which(session, name, ask.generation)
    if not catalogue.projection:
        return {**_answer((), ask.mode, None, None), "projection": "off"}
    if generation is None:
        return _answer((), ask.mode, None, None)
    where = clauses(ask.filter, fields_of(generation))
    vectors, trouble = (None, None) if ask.mode == "lexical" else await embedded(connections, generation, [ask.query])
    vector = vectors[0] if vectors else None
    found = await hits(await connections.engine(generation.engine), generation.index, ask, vector, where)
    return _answer(found, "lexical" if vector is None else ask.mode, generation.id, trouble)


async def _which(session: ReadSession, name: str, wanted: str | None) -> Generation | None:
    if wanted is None:
        return await generations.live(session, name)
    return searchable(await generations.get(session, name, wanted))


def searchable(generation: Generation) -> Generation:
    """*generation*, when it is whole and still there. Raises `Conflict` with code `not_searchable`."""
    if generation.state in ("draft", "dropped"):
        raise Conflict(
            f"Generation {generation.id} is {generation.state}: search one that is live, retired, sealed or refused.",
            code="not_searchable",
        )
    return generation


def fields_of(generation: Generation) -> dict[str, str]:
    """The fields of the recipe that built it, as name to type; none for an index that is not ours."""
    declared: Mapping[str, Any] = (generation.recipe or {}).get("fields") or {}
    return {name: str(spec["type"]) for name, spec in declared.items()}


# --- by meaning ------------------------------------------------------------------------------------------------------


async def embedded(
    connections: "Connections", generation: Generation, queries: Sequence[str], seconds: float = QUERY_SECONDS
) -> tuple[Sequence[Vector] | None, EmbedderError | None]:
    """The queries' vectors by the generation's own model within *seconds*, or what is wrong with that model."""
    try:
        with anyio.fail_after(seconds):
            return await _vectors(connections, generation, queries), None
    except TimeoutError:
        trouble: EmbedderError = EmbedderUnavailable(f"The model took over {seconds:g} seconds for the query.")
    except EmbedderError as error:
        trouble = error
    log.warning("search_degraded", catalogue=generation.catalogue, code=trouble.code, detail=trouble.detail)
    return None, trouble


async def _vectors(connections: "Connections", generation: Generation, queries: Sequence[str]) -> list[Vector]:
    made_by = generation.embedder or {}
    declared = (generation.recipe or {}).get("embedder")
    if declared is None:
        raise EmbedderError("This index is not ours: which model made its vectors is not known.", code="no_model")
    embedder = connections.embedder(EmbedderSpec.model_validate(declared))
    stamp = await embedder.ready()
    if (stamp.alias, stamp.version, stamp.dims) != tuple(made_by.get(key) for key in ("model", "version", "dims")):
        raise EmbedderError("The model is not the one that made this generation's vectors.", code="other_model")
    return [[float(value) for value in row] for row in (await embedder.embed(queries)).vectors]


# --- hits ------------------------------------------------------------------------------------------------------------


async def hits(
    target: Target, index: str, ask: Ask, vector: Vector | None, where: Sequence[Mapping[str, Any]] = ()
) -> Sequence[Scored]:
    """The hits of one index as *ask* wants them; without a *vector* the words are searched."""
    if vector is None:
        return await target.lexical(index, ask.query, ask.k, where)
    if ask.mode == "vector":
        return await target.nearest(index, vector, ask.k, candidates(ask.k), where)
    window = max(ask.k, WINDOW)
    by_meaning = await target.nearest(index, vector, window, candidates(window), where)
    by_words = await target.lexical(index, ask.query, window, where)
    return fused(by_meaning, by_words)[: ask.k]


def candidates(k: int) -> int:
    """Documents each shard looks at for *k* hits: ten times as many, at least a hundred."""
    return max(100, 10 * k)


def fused(*lists: Sequence[Scored]) -> list[Scored]:
    """Reciprocal rank fusion: only ranks count, because scores of different kinds do not compare."""
    scores: defaultdict[str, float] = defaultdict(float)
    documents: dict[str, Mapping[str, Any]] = {}
    for found in lists:
        for rank, hit in enumerate(found, start=1):
            scores[hit.id] += 1 / (RANK_CONSTANT + rank)
            documents[hit.id] = hit.source
    order = sorted(scores, key=lambda product: (-scores[product], product))
    return [Scored(product, scores[product], documents[product]) for product in order]


def _answer(
    found: Sequence[Scored], mode: Mode, generation: str | None, trouble: EmbedderError | None
) -> dict[str, Any]:
    return {
        "hits": [{"id": hit.id, "score": hit.score, "document": _document(hit.source)} for hit in found],
        "mode": mode,
        "generation": generation,
        "degraded": trouble is not None,
        "degraded_by": told(trouble),
    }


def told(trouble: EmbedderError | None) -> dict[str, str] | None:
    """Why words were searched although meaning was asked for, as clients see it."""
    return {"code": trouble.code, "detail": trouble.detail} if trouble else None


def _document(source: Mapping[str, Any]) -> dict[str, Any]:
    """Without the vector: it is long and tells a reader nothing."""
    return {key: value for key, value in source.items() if key != "embedding"}
