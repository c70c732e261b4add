"""Generations: each one target index, from its draft to its end.

    draft ─▶ sealed ─▶ live ◀──▶ retired ─▶ dropped
      │        ├─▶ refused ─────────────────▶ dropped     (kept for inspection until the next run)
      └────────┴──────────────────────────────▶ dropped

A generation's row is committed before its index exists. `live` and `retired` change in the commit of a switch only
(`app.switches`); everything that removes takes the catalogue's row lock first, so that a rollback never names an index
that is being dropped.

- *Before*: the generation that the present one replaced when it was promoted, and so on back; dropped ones are passed
  over. Rolling back twice therefore goes back twice, and never forward again to what was just undone: that is `to=`.
- *Fed*: the live one, the draft, and the `rollback_window` most recently retired. One that leaves the window has
  `stale_since` and never is fed again unless it becomes live.
- *Kept*: see `app.retention`. A foreign index is never fed, never stale by our doing, and never dropped.
- *A clone* stands under its name, not fed, before its index exists, and is fed from the moment it does. Nothing in the
  engine shows that its index is not the one it was made of until it has been given its own mark.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any, Literal

from sqlalchemy import ScalarResult, case, delete, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from app.columns import iso, utc_now
from app.db import ReadSession, WriteSession
from app.errors import Conflict, NotFound
from app.models import Catalogue, Generation, Installation, Run, Switch
from app.paging import Page, page
from app.spec import CatalogueSpec, RecipeSpec
from app.sync.words import ModelStamp

FOLLOWS = {
    "draft": ("sealed", "refused", "dropped"),
    "sealed": ("live", "refused", "dropped"),
    "live": ("retired", "dropped"),
    "retired": ("live", "dropped"),
    "refused": ("dropped",),
    "dropped": (),
}
"""The state diagram. `live` to `dropped` only when the index itself was lost."""

BUILDING = ("draft", "sealed")

SECONDS_TRIED = 120
"""How many seconds from now a free index name is looked for."""


# --- read ------------------------------------------------------------------------------------------------------------


async def listed(session: ReadSession, catalogue: str, limit: int = 50, cursor: str | None = None) -> Page[Generation]:
    """The generations, newest first, and the cursor of the next page."""
    query = select(Generation).where(col(Generation.catalogue) == catalogue)
    return await page(session, query, [col(Generation.created_at), col(Generation.id)], limit, cursor)


async def get(session: ReadSession, catalogue: str, id: str) -> Generation:  # noqa: A002 - what clients call it
    """One generation by its id or its index. Raises `NotFound`."""
    query = select(Generation).where(col(Generation.catalogue) == catalogue)
    query = query.where((col(Generation.id) == id) | (col(Generation.index) == id))
    if found := (await session.exec(query)).first():
        return found
    raise NotFound(f"Catalogue {catalogue} has no generation {id[:80]!r}: see its generations.")


async def live(session: ReadSession, catalogue: str) -> Generation | None:
    """The one behind the alias, as far as the database knows; None before the first switch."""
    return (await _of(session, catalogue, "live")).first()


async def before(session: ReadSession, catalogue: str) -> Generation | None:
    """Where a rollback goes by default: back along the promotions from the live one to the first that is kept."""
    here = await live(session, catalogue)
    seen: set[str] = set()
    while here is not None and here.id not in seen:
        seen.add(here.id)
        here = await _replaced(session, here)
        if here is not None and here.state == "retired":
            return here
    return None


async def _replaced(session: ReadSession, generation: Generation) -> Generation | None:
    moved = select(Switch.from_generation).where(
        col(Switch.catalogue) == generation.catalogue,
        col(Switch.to_generation) == generation.id,
        col(Switch.kind) == "promotion",
        col(Switch.state) == "moved",
    )
    previous = (await session.exec(moved.order_by(col(Switch.number)).limit(1))).first()
    return await session.get(Generation, previous) if previous else None


async def of_run(session: ReadSession, run: str) -> Sequence[Generation]:
    """What a run built, whatever became of it."""
    return (await session.exec(select(Generation).where(col(Generation.created_by) == run))).all()


async def is_cloning(session: ReadSession, catalogue: str) -> bool:
    """Whether a draft is a clone that is not fed yet: until then what it is made of must refuse writes."""
    clones = select(Generation.id).where(
        col(Generation.catalogue) == catalogue,
        col(Generation.state) == "draft",
        col(Generation.cloned_from).is_not(None),
        col(Generation.fed).is_(False),
    )
    return (await session.exec(clones.limit(1))).first() is not None


async def _of(session: ReadSession, catalogue: str, state: str) -> ScalarResult[Generation]:
    query = select(Generation).where(col(Generation.catalogue) == catalogue, col(Generation.state) == state)
    return await session.exec(query, execution_options={"populate_existing": True})


def view(generation: Generation) -> dict[str, Any]:
    """A generation as clients see it."""
    fields = "id catalogue index state origin documents recipe_hash embedder created_by fed"
    times = ("created_at", "live_since", "retired_at", "stale_since")
    shown = {name: getattr(generation, name) for name in fields.split()}
    return shown | {name: iso(getattr(generation, name)) for name in times}


# --- build -----------------------------------------------------------------------------------------------------------


async def register(
    session: WriteSession,
    catalogue: Catalogue,
    run: Run,
    recipe: RecipeSpec,
    *,
    recipe_hash: str,
    stamp: ModelStamp,
    cloned_from: str | None = None,
) -> Generation:
    """A draft of *run* under a name that no other generation on this engine ever had; the catalogue's row is locked.

    A clone is fed from `feed` on: what was written to it before its index exists would be lost.
    """
    draft = Generation(
        id=token_hex(8),
        catalogue=catalogue.name,
        engine=catalogue.engine,
        index="",
        recipe_hash=recipe_hash,
        recipe=recipe.model_dump(mode="json", by_alias=True),
        embedder={
            "name": recipe.embedder.provider, "model": stamp.alias, "version": stamp.version, "dims": stamp.dims,
            "normalized": stamp.normalized,
        },
        created_by=run.id,
        cloned_from=cloned_from,
        fed=cloned_from is None,
        since=catalogue.number,
    )  # fmt: skip
    await _name(session, draft, base_of(catalogue.alias), utc_now())
    run.generation, run.recipe = draft.id, recipe_hash
    catalogue.epoch += draft.fed
    return draft


async def feed(session: WriteSession, catalogue: Catalogue, draft: str) -> None:
    """A clone is there: it joins the fed set. Raises `Conflict` when it is no draft any more."""
    await _change(session, draft, "draft", ("draft",), fed=True)
    catalogue.epoch += 1


async def _name(session: WriteSession, draft: Generation, base: str, now: datetime) -> None:
    """The next free second; the unique constraint says what is free, also to two at once."""
    for seconds in range(SECONDS_TRIED):
        draft.index = index_name(base, now + timedelta(seconds=seconds))
        try:
            async with session.begin_nested():
                session.add(draft)
            return
        except IntegrityError:
            continue
    raise Conflict(f"No free index name {base}-... in {SECONDS_TRIED} seconds: is a clock wrong?", code="no_free_name")


def base_of(alias: str) -> str:
    """What index names of an alias begin with: the alias without a trailing `-live`."""
    return alias.removesuffix("-live")


def index_name(base: str, moment: datetime) -> str:
    """`<base>-YYYYMMDDHHMMSS`, UTC."""
    return f"{base}-{moment.astimezone(UTC):%Y%m%d%H%M%S}"


async def seal(session: WriteSession, catalogue: Catalogue, draft: str, documents: int) -> Generation:
    """The draft is whole; proof begins. Raises `Conflict` when it is no draft any more."""
    await _change(session, draft, "sealed", ("draft",), documents=documents)
    catalogue.epoch += 1
    return await session.get_one(Generation, draft, populate_existing=True)


async def fed(session: ReadSession, catalogue: str) -> Sequence[Generation]:
    """All that events are written to: the live one, a draft, the retired ones inside the rollback window."""
    query = select(Generation).where(col(Generation.catalogue) == catalogue, col(Generation.fed))
    query = query.where(col(Generation.state).in_((*BUILDING, "live", "retired")), col(Generation.origin) == "own")
    return (await session.exec(query, execution_options={"populate_existing": True})).all()


async def starve(session: WriteSession, catalogue: Catalogue, id: str) -> Generation | None:  # noqa: A002
    """A generation that does not take what events bring leaves the fed set, and is never fed again; None for the live
    one, which may hold events, and for one that an open switch goes to: readers are about to have it. A draft is given
    up with that: its run fails. A retired one is stale from now on."""
    one = await session.get(Generation, id, populate_existing=True, with_for_update=True)
    if one is None or not one.fed or one.state not in (*BUILDING, "retired"):
        return None
    if await _is_named(session, catalogue, id):
        return None
    one.fed = False
    if one.state == "retired":
        one.stale_since = one.stale_since or utc_now()
    else:
        one.state = "dropped"
    catalogue.epoch += 1
    return one


async def leave(session: WriteSession, catalogue: Catalogue, draft: str, state: Literal["dropped", "refused"]) -> None:
    """A draft leaves the fed set; twice is once. Raises `Conflict` when it is live or an open switch names it."""
    if await _is_named(session, catalogue, draft):
        raise Conflict("An open switch names this draft: the switch is settled first.", code="switch_open")
    await _change(session, draft, state, (*BUILDING, state), fed=False)
    catalogue.epoch += 1


async def _is_named(session: WriteSession, catalogue: Catalogue, draft: str) -> bool:
    """Whether an open switch goes there."""
    named = select(Switch.number).where(
        col(Switch.catalogue) == catalogue.name, col(Switch.state) == "open", col(Switch.to_generation) == draft
    )
    return (await session.exec(named)).first() is not None


async def _change(session: WriteSession, id: str, state: str, states: Sequence[str], **also: Any) -> None:  # noqa: A002
    change = update(Generation).where(col(Generation.id) == id, col(Generation.state).in_(states))
    change = change.values(state=state, **also)
    if not (await session.exec(change, execution_options=_QUIET)).rowcount:
        raise Conflict(
            f"Generation {id} cannot be {state} now: it is none of {', '.join(states)}.", code="generation_state"
        )


async def adopt(session: WriteSession, catalogue: Catalogue, index: str, draft: str) -> str:
    """An index that is not ours and is about to be taken over: listed, never written, never dropped; its id.

    It stands as retired, known since just before the draft that replaces it.
    """
    new = await session.get_one(Generation, draft)
    foreign = Generation(
        id=token_hex(8),
        catalogue=catalogue.name,
        engine=catalogue.engine,
        index=index,
        state="retired",
        origin="foreign",
        created_at=new.created_at - timedelta(seconds=1),
        retired_at=utc_now(),
    )
    session.add(foreign)
    await session.flush()
    return foreign.id


# --- switch ----------------------------------------------------------------------------------------------------------


async def take_over(session: WriteSession, catalogue: Catalogue, switch: Switch, now: datetime) -> Generation:
    """The states after a switch that moved, within the transaction that settles it: the generation that is live now.

    The one that was live is retired, or dropped where the switch did not take the alias from it: its index was lost.
    """
    left = col(Generation.id) == switch.from_generation
    was_live = update(Generation).where(col(Generation.catalogue) == catalogue.name, col(Generation.state) == "live")
    leaves = was_live.values(state=case((left, "retired"), else_="dropped"), retired_at=now)
    await session.exec(leaves, execution_options=_QUIET)
    to = await session.get_one(Generation, switch.to_generation, populate_existing=True)
    to.state, to.live_since, to.retired_at, to.fed = "live", now, None, to.origin == "own"
    await session.flush()
    window = CatalogueSpec.model_validate(catalogue.spec).policy.rollback_window
    feed_only(await retired(session, catalogue.name), window, now)
    catalogue.epoch += 1
    return to


async def disown(session: WriteSession, switch: Switch) -> None:
    """A foreign index that was to be taken over by a switch that did not move is not ours to list."""
    source = switch.from_generation
    others = select(Switch.number).where(
        col(Switch.catalogue) == switch.catalogue,
        col(Switch.number) != switch.number,
        (col(Switch.from_generation) == source) | (col(Switch.to_generation) == source),
    )
    if source and (await session.exec(others)).first() is None:
        foreign = delete(Generation).where(col(Generation.id) == source, col(Generation.origin) == "foreign")
        await session.exec(foreign, execution_options=_QUIET)


_QUIET = {"synchronize_session": False}


# --- retire ----------------------------------------------------------------------------------------------------------


def feed_only(retired: Sequence[Generation], window: int, now: datetime) -> None:
    """Those of *retired* beyond the window leave the fed set for good."""
    ours = [generation for generation in newest_retired(retired) if generation.origin == "own"]
    for generation in ours[window:]:
        if generation.fed or generation.stale_since is None:
            generation.fed, generation.stale_since = False, generation.stale_since or now


def newest_retired(generations: Sequence[Generation]) -> list[Generation]:
    """The most recently retired first."""
    return sorted(generations, key=lambda one: (one.retired_at or one.created_at, one.created_at, one.id), reverse=True)


async def retired(session: ReadSession, catalogue: str) -> Sequence[Generation]:
    """All that could be rolled back to, in no order."""
    return (await _of(session, catalogue, "retired")).all()


async def refused(session: ReadSession, catalogue: str) -> Sequence[Generation]:
    """Drafts that a verdict refused and that are still there for inspection."""
    return (await _of(session, catalogue, "refused")).all()


async def owner(session: ReadSession) -> str:
    """The id of this installation, as it stands in the mark of every index it made."""
    return (await session.exec(select(Installation.id))).one()
