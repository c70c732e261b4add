"""One product from the source to the readers: what the source says of it, what each generation holds of it, and why.

    source, by id in real time ─▶ prepared by the catalogue's recipe, and by each generation's own ─▶ compared
    every generation that has an index, by id in real time

What was read at different moments may differ by what happened in between: a trace is for looking, not for proof. An
engine out of reach is an error; a source that is not there, or an index that was deleted, is part of the answer.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from anyio import to_thread
from sqlmodel import col, select
from sqlmodel.sql.expression import SelectOfScalar

from app import catalogues, changes, events, runs
from app.columns import iso
from app.db import Database, ReadSession
from app.errors import IndexMissing, NotFound, Problem, SourceUnresolved
from app.models import Catalogue, ChangeRow, Event, Generation, RejectRow, Run
from app.reasons import HASHES, Copy, Facts, Said, why
from app.spec import CatalogueSpec, IndexSource, RecipeSpec
from app.sync import recipe as recipes
from app.sync.engine_port import Engine
from app.sync.prepare import MAX_ID, Preparer
from app.sync.sources.index import IndexSource as EngineSource
from app.sync.words import Document, Hit, Page, Slice

if TYPE_CHECKING:
    from app.connections import Connections

BIG = 19
"""Digits of the first numbers that may not fit into 64 bits."""


async def trace(db: Database, connections: "Connections", name: str, product_id: str) -> Mapping[str, Any]:
    """All that is known of one product of catalogue *name*, and one answer to why it is found as it is.

    Raises `NotFound` for a catalogue, and for a product that neither the source nor a generation, neither the change
    log nor a reject knows; `EngineUnavailable`.
    """
    async with db.reading() as session:
        known = await _known(session, name, product_id)
    seen = await _looked(connections, known.spec, product_id)
    copies = [await _copy(connections, seen, generation, product_id) for generation in known.generations]
    if not (
        seen.hit or seen.trouble or known.change or known.reject or known.event or any(copy.hit for copy in copies)
    ):
        raise _unknown(name, product_id)
    facts = _facts(known, seen, copies)
    answer = why(facts)
    return {
        "catalogue": name,
        "product_id": product_id,
        "why": {"code": answer.code, "detail": answer.detail},
        "source": _source_view(seen),
        "generations": [_copy_view(copy) for copy in copies],
        "last_change": changes.view(known.change) if known.change else None,
        "last_reject": {"run": known.reject.run, **runs.view_reject(known.reject)} if known.reject else None,
        "last_event": events.view(known.event) if known.event else None,
    }


def _unknown(name: str, product_id: str) -> NotFound:
    where = "neither in its source nor in a generation, a change or a reject"
    return NotFound(f"Catalogue {name} knows no product {product_id[:80]!r}: it is {where}.", code="unknown_product")


def _facts(known: "Known", seen: "Seen", copies: Sequence[Copy]) -> Facts:
    live = next((copy for copy in copies if copy.generation.state == "live"), None)
    recipe = recipe_of(live.generation) if live else None
    return Facts(
        said=seen.by_now,
        live=live,
        copies=copies,
        trouble=seen.trouble,
        reject=known.reject,
        change=known.change,
        embedder_changed=recipe is not None and recipe.embedder != known.spec.recipe.embedder,
        held=known.catalogue.held,
        withheld=known.last.id if known.last and known.last.withheld else None,
        failed=known.event.reason_code if known.event and known.event.status == "failed" else None,
    )


# --- what the database knows -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """The catalogue, its generations that have an index (newest first), its last run; the product's last change, reject
    and event."""

    catalogue: Catalogue
    spec: CatalogueSpec
    generations: Sequence[Generation]
    change: ChangeRow | None
    reject: RejectRow | None
    event: Event | None
    last: Run | None


async def _known(session: ReadSession, name: str, product_id: str) -> Known:
    catalogue = await catalogues.get(session, name)
    if not product_id or len(product_id.encode()) > MAX_ID:
        raise _unknown(name, product_id)
    there = select(Generation).where(col(Generation.catalogue) == name, col(Generation.state) != "dropped")
    return Known(
        catalogue,
        catalogues.spec_of(catalogue),
        (await session.exec(there.order_by(col(Generation.created_at).desc(), col(Generation.id).desc()))).all(),
        await changes.last(session, name, product_id),
        await runs.last_reject(session, name, product_id),
        await events.last(session, name, product_id),
        (await session.exec(_last_run(name))).first(),
    )


def _last_run(name: str) -> SelectOfScalar[Run]:
    """The newest that looked at the whole source."""
    over = select(Run).where(col(Run.catalogue) == name, col(Run.dry_run).is_(False), col(Run.withheld).is_not(None))
    return over.order_by(col(Run.requested_at).desc()).limit(1)


def recipe_of(generation: Generation) -> RecipeSpec | None:
    """The resolved recipe that built it; None for an index that is not ours."""
    return RecipeSpec.model_validate(generation.recipe) if generation.recipe else None


# --- what the source says --------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """The source at this moment: the product as far as the catalogue's recipe takes it, or the trouble in the way."""

    product_id: str
    engine: Engine
    index: str | None = None
    hit: Hit | None = None
    by_now: Said = field(default_factory=Said)
    trouble: Problem | None = None
    said: dict[str, Said] = field(default_factory=dict)

    async def by(self, recipe: RecipeSpec | None) -> Said | None:
        """What the source says by *recipe*; None where nobody can know."""
        if recipe is None or self.index is None:
            return None
        key = recipe.model_dump_json(exclude={"embedder"})
        if key not in self.said:
            self.said[key] = (await self.read(recipe))[1]
        return self.said[key]

    async def read(self, recipe: RecipeSpec) -> tuple[Hit | None, Said]:
        """The product as far as *recipe* takes it, and what becomes of it."""
        assert self.index is not None
        preparer = Preparer(recipe)
        hits = await self.engine.get(self.index, [self.product_id], preparer.wanted)
        batch = await to_thread.run_sync(preparer.prepare, Page(Slice(0, 1), hits, None, 0))
        return next(iter(hits), None), Said(next(iter(batch.documents), None), next(iter(batch.rejects), None))


async def _looked(connections: "Connections", spec: CatalogueSpec, product_id: str) -> Seen:
    """The source, asked once: whoever looks does not wait until a busy engine has time."""
    assert isinstance(spec.source, IndexSource)
    engine = await connections.engine(spec.source.engine)
    seen = Seen(product_id, engine)
    try:
        seen.index = (await EngineSource(engine, spec.source.index).look()).index
        recipe = recipes.resolve(spec.recipe, await engine.properties(seen.index))
        seen.hit, seen.by_now = await seen.read(recipe)
    except (SourceUnresolved, IndexMissing) as trouble:
        return Seen(product_id, engine, trouble=trouble)
    seen.said[recipe.model_dump_json(exclude={"embedder"})] = seen.by_now
    return seen


def _source_view(seen: Seen) -> dict[str, Any]:
    reject, trouble = seen.by_now.reject, seen.trouble
    return {
        "index": seen.index,
        "found": None if trouble else seen.hit is not None,
        "content": shown(seen.hit.source) if seen.hit else None,
        "document": _document_view(seen.by_now.document) if seen.by_now.document else None,
        "reject": {"by": reject.by, "code": reject.code, "detail": reject.detail} if reject else None,
        "trouble": {"code": trouble.code, "detail": trouble.detail} if trouble else None,
    }


def shown(content: Mapping[str, Any]) -> Any:
    """*content* as JSON can carry it: half a surrogate pair becomes `?`, a number over 64 bits a double."""
    try:
        orjson.dumps(content)
    except TypeError:
        text = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
        return json.loads(text, parse_int=_number)
    return content


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < BIG else float(digits)


def _document_view(document: Document) -> dict[str, Any]:
    hashes = {name: getattr(document, name) for name in HASHES}
    return {"fields": document.fields, "text": document.text, "truncated": document.truncated, **hashes}


# --- what a generation holds -----------------------------------------------------------------------------------------


async def _copy(connections: "Connections", seen: Seen, generation: Generation, product_id: str) -> Copy:
    engine = await connections.engine(generation.engine)
    said = await seen.by(recipe_of(generation))
    try:
        hits = await engine.get(generation.index, [product_id], None)
        if not hits:
            return Copy(generation, said)
        has = product_id in await engine.vectors(generation.index, [product_id]) if generation.origin == "own" else None
    except IndexMissing:
        return Copy(generation, said, lost=True)
    return Copy(generation, said, hits[0], has)


def _copy_view(copy: Copy) -> dict[str, Any]:
    generation, stored = copy.generation, copy.hit.source if copy.hit else {}
    return {
        "generation": generation.id,
        **{name: getattr(generation, name) for name in ("index", "state", "origin", "fed")},
        **{name: iso(getattr(generation, name)) for name in ("created_at", "live_since", "stale_since")},
        "index_missing": copy.lost,
        "present": copy.hit is not None,
        "version": copy.hit.version if copy.hit else None,
        **{name: stored.get(name) for name in (*HASHES, "embed_model_alias", "embed_model_version", "updated_at")},
        "has_vector": copy.has_vector,
        "equals_source": copy.agrees,
        "differs": list(copy.differs),
    }
