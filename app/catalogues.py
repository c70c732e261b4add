"""Catalogues: what is kept in step. Declared as a whole, checked for form only; the engine is never asked here.

Findings are gathered and raised together. Source, engine and alias are fixed once a generation exists, and a pair of
engine and alias belongs to one catalogue. A catalogue is *held* after a rollback: no run starts until it is released.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from app import audit, progress
from app.columns import iso, utc_now
from app.config import EmbedderSettings, Settings
from app.db import ReadSession, WriteSession
from app.errors import Conflict, Invalid, NotFound, NotSupportedYet
from app.models import (
    ACTIVE,
    Catalogue,
    ChangeRow,
    Event,
    EventKey,
    Generation,
    IdempotencyKey,
    Progress,
    RejectRow,
    Run,
    Switch,
)
from app.notices import ARRIVED
from app.paging import Page, page
from app.spec import CatalogueSpec, EmbedderSpec, FileSource, IndexSource, PolicySpec
from app.sync.embedders import OPENAI_URL
from app.sync.engines.shapes import flat
from app.sync.recipe import check_recipe

NOT_BUILT = (
    "schedule", "window", "changes_threshold", "minutes_threshold", "priority_fields", "runs_per_hour", "retries",
    "retry_delay",
)  # fmt: skip
"""Keys of a policy that nothing reads yet: a value of one's own would be a promise."""

OWN_KEYS = {
    "index.number_of_shards": "shards",
    "index.number_of_replicas": "replicas",
    "index.refresh_interval": "refresh_interval",
}

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

Finding = dict[str, str]


# --- declare ---------------------------------------------------------------------------------------------------------


async def declare(
    session: WriteSession, name: str, spec: CatalogueSpec, settings: Settings | None = None
) -> tuple[Catalogue, bool]:
    """Declare catalogue *name* or change it; whether it is new. *settings* say which engines and embedders exist.

    Raises `Invalid` or `NotSupportedYet` with every finding, `Conflict` with code `fixed` or `alias_taken`.
    """
    check(name, spec, settings)
    known = await _locked(session, name)
    if known is None and (made := await _insert(session, name, spec)):
        return made, True
    known = known or await _locked(session, name)
    if known is None:
        raise await _alias_taken(session, spec)
    await _change(session, known, spec)
    return known, False


async def _insert(session: WriteSession, name: str, spec: CatalogueSpec) -> Catalogue | None:
    """The new row, or None when the name or the alias is taken, perhaps by somebody at this very moment."""
    made = Catalogue(name=name, **_columns(spec))
    try:
        async with session.begin_nested():
            session.add(made)
    except IntegrityError:
        return None
    return made


async def _change(session: WriteSession, known: Catalogue, spec: CatalogueSpec) -> None:
    if (changed := _fixed_changes(spec_of(known), spec)) and await _has_generation(session, known.name):
        raise Conflict(
            f"{' and '.join(changed)} cannot change once a generation exists: declare another catalogue.", code="fixed"
        )
    try:
        async with session.begin_nested():
            known.sqlmodel_update({**_columns(spec), "updated_at": utc_now()})
    except IntegrityError:
        raise await _alias_taken(session, spec) from None


def _columns(spec: CatalogueSpec) -> dict[str, Any]:
    return {
        "tenant": spec.tenant,
        "spec": spec.model_dump(mode="json", by_alias=True),
        "engine": spec.target.engine,
        "alias": spec.target.alias,
    }


def _fixed_changes(old: CatalogueSpec, new: CatalogueSpec) -> list[str]:
    pairs = {
        "source": (old.source, new.source),
        "target.engine": (old.target.engine, new.target.engine),
        "target.alias": (old.target.alias, new.target.alias),
    }
    return [name for name, (was, wanted) in pairs.items() if was != wanted]


async def _has_generation(session: ReadSession, name: str) -> bool:
    return (
        await session.exec(select(Generation.id).where(col(Generation.catalogue) == name).limit(1))
    ).first() is not None


async def _alias_taken(session: ReadSession, spec: CatalogueSpec) -> Conflict:
    query = select(Catalogue.name).where(col(Catalogue.engine) == spec.target.engine)
    owner = (await session.exec(query.where(col(Catalogue.alias) == spec.target.alias))).first()
    return Conflict(
        f"Alias {spec.target.alias} on engine {spec.target.engine} belongs to catalogue {owner}: choose another alias.",
        code="alias_taken",
        catalogue=owner,
    )


# --- what a declaration may say --------------------------------------------------------------------------------------


def check(name: str, spec: CatalogueSpec, settings: Settings | None = None) -> None:
    """Raise everything that is wrong with a declaration, at once."""
    wrong = [*_bad_name(name), *_unknown_names(spec, settings), *_bad_recipe(spec), *_settings_findings(spec)]
    missing = list(_not_built(spec))
    if wrong:
        raise Invalid("This catalogue cannot be declared: see errors.", errors=[*wrong, *missing])
    if missing:
        raise NotSupportedYet("Parts of this catalogue are not built yet: see errors.", errors=missing)


def _finding(where: str, why: str) -> Finding:
    return {"where": where, "why": why}


def _bad_name(name: str) -> Iterator[Finding]:
    if not NAME.fullmatch(name):
        yield _finding("name", "use lower-case letters, digits, _ . and -, at most 64; begin with a letter or digit")


def _bad_recipe(spec: CatalogueSpec) -> list[Finding]:
    return [{**found, "where": f"recipe.{found['where']}"} for found in check_recipe(spec.recipe)]


def _unknown_names(spec: CatalogueSpec, settings: Settings | None) -> Iterator[Finding]:
    if settings is None:
        return
    engines = {"target.engine": spec.target.engine}
    if isinstance(spec.source, IndexSource):
        engines["source.engine"] = spec.source.engine
    for where, engine in engines.items():
        if engine not in settings.engines:
            there = ", ".join(sorted(settings.engines))
            yield _finding(where, f"no engine {engine} in the settings; there are: {there}")
    yield from _embedder_findings(spec.recipe.embedder, settings.embedders)


def _embedder_findings(spec: EmbedderSpec, embedders: Mapping[str, EmbedderSettings]) -> Iterator[Finding]:
    if spec.provider == "onnx":
        return
    named = embedders.get(spec.provider)
    if named is None:
        there = ", ".join(sorted(embedders))
        yield _finding("recipe.embedder.provider", f"no embedder {spec.provider} in the settings; there are: {there}")
    elif spec.base_url is not None and not _allowed(spec, named):
        setting = f"EMBEDDERS__{spec.provider.upper()}__ALLOW_URLS"
        yield _finding("recipe.embedder.base_url", f"not allowed: add it to {setting}")


def _allowed(spec: EmbedderSpec, embedder: EmbedderSettings) -> bool:
    own = embedder.url or (OPENAI_URL if spec.provider == "openai" else "")
    return str(spec.base_url).rstrip("/") in {known.rstrip("/") for known in (own, *embedder.allow_urls) if known}


def _settings_findings(spec: CatalogueSpec) -> Iterator[Finding]:
    """What has a key of its own is set by that: a draft is loaded with other values, and sealed with those."""
    for name in flat(spec.target.settings):
        if name in OWN_KEYS:
            yield _finding(f"target.settings.{name}", f"say it as target.{OWN_KEYS[name]}")


def _not_built(spec: CatalogueSpec) -> Iterator[Finding]:
    policy, embedder = spec.policy, spec.recipe.embedder
    unset = PolicySpec()
    parts = {
        "source.kind": isinstance(spec.source, FileSource),
        "recipe.embedder.provider": embedder.provider == "onnx",
        "recipe.embedder.manifest": embedder.manifest is not None,
    }
    parts |= {f"policy.{name}": getattr(policy, name) != getattr(unset, name) for name in NOT_BUILT}
    for where, used in parts.items():
        if used:
            yield _finding(where, "is not built yet: leave it out")


# --- read ------------------------------------------------------------------------------------------------------------


async def get(session: ReadSession, name: str) -> Catalogue:
    """The catalogue *name*. Raises `NotFound`."""
    if found := await session.get(Catalogue, name):
        return found
    raise unknown(name)


def unknown(name: str) -> NotFound:
    """What is said of a catalogue that is not there."""
    return NotFound(f"There is no catalogue {name[:80]!r}: see GET /api/v1/catalogues.")


async def listed(session: ReadSession, limit: int = 50, cursor: str | None = None) -> Page[Catalogue]:
    """The catalogues by name, and the cursor of the next page."""
    return await page(session, select(Catalogue), [col(Catalogue.name)], limit, cursor, up=True)


async def only(session: ReadSession) -> Catalogue:
    """The one catalogue there is: what an empty order means. Raises `Invalid` when there are none or several."""
    rows = (await session.exec(select(Catalogue).limit(2))).all()
    if len(rows) == 1:
        return rows[0]
    why = "name the catalogue: there are several" if rows else "there is no catalogue: declare one first"
    raise Invalid("The order names no catalogue.", errors=[_finding("catalogue", why)])


def spec_of(catalogue: Catalogue) -> CatalogueSpec:
    """What was declared."""
    return CatalogueSpec.model_validate(catalogue.spec)


def view(catalogue: Catalogue) -> dict[str, Any]:
    """A catalogue as clients see it, but for its live generation, last run and lag."""
    return {
        "name": catalogue.name,
        **catalogue.spec,
        "held": catalogue.held,
        "held_reason": catalogue.held_reason,
        "paused": catalogue.paused,
        "projection": "on" if catalogue.projection else "off",
        "created_at": iso(catalogue.created_at),
        "updated_at": iso(catalogue.updated_at),
    }


# --- change ----------------------------------------------------------------------------------------------------------


async def locked(session: WriteSession, name: str) -> Catalogue:
    """The row, locked until the end of the transaction; take it after the run's row, never before. `NotFound`."""
    return await _locked(session, name) or await get(session, name)


async def _locked(session: WriteSession, name: str) -> Catalogue | None:
    query = select(Catalogue).where(col(Catalogue.name) == name).with_for_update()
    return (await session.exec(query, execution_options={"populate_existing": True})).first()


async def forget(session: WriteSession, name: str, who: str) -> None:
    """Remove all that is known of a catalogue but the audit log; indices stay. `Conflict` while a run is active."""
    await locked(session, name)
    active = (await session.exec(select(Run.id).where(col(Run.catalogue) == name, ACTIVE))).first()
    if active:
        raise Conflict("A run of this catalogue is active: cancel it first.", code="active", run_id=active)
    runs = select(Run.id).where(col(Run.catalogue) == name)
    await session.exec(delete(RejectRow).where(col(RejectRow.run).in_(runs)))
    await session.exec(delete(IdempotencyKey).where(col(IdempotencyKey.run).in_(runs)))
    for table in (Progress, ChangeRow, Event, EventKey, Switch, Generation, Run):
        await session.exec(delete(table).where(col(table.catalogue) == name))
    await session.exec(delete(Catalogue).where(col(Catalogue.name) == name))
    await audit.record(session, who, "forget", name)


async def hold(session: WriteSession, name: str, reason: str) -> Catalogue:
    """No run starts until `release`; called within the transaction of the rollback."""
    catalogue = await locked(session, name)
    catalogue.held, catalogue.held_reason = True, reason
    await progress.say(session, name, "note", {"held": True, "reason": reason})
    return catalogue


async def release(session: WriteSession, name: str, who: str, reason: str | None = None) -> Catalogue:
    """Runs may start again; audited. One that is not held stays as it is."""
    catalogue = await locked(session, name)
    if catalogue.held:
        catalogue.held, catalogue.held_reason = False, None
        await progress.say(session, name, "note", {"held": False, "by": who})
        await audit.record(session, who, "release", name, reason=reason)
    return catalogue


async def patch(
    session: WriteSession, name: str, who: str, *, paused: bool | None = None, projection: str | None = None
) -> Catalogue:
    """Switch the applying of events, or reading; audited. What stays as it is leaves no trace."""
    catalogue = await locked(session, name)
    wanted = {"paused": paused, "projection": None if projection is None else projection == "on"}
    changed = {part: value for part, value in wanted.items() if value not in (None, getattr(catalogue, part))}
    if changed:
        catalogue.sqlmodel_update(changed)
        await progress.say(session, name, "note", {**changed, "by": who})
        await audit.record(session, who, "switch", name, changed=changed)
        session.ring(ARRIVED)
    return catalogue
