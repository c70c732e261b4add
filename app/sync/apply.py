"""Applying: what happened to some products, from the source into every fed generation, under one number.

        ids ─▶ read by id, in real time ─▶ prepare by each generation's own recipe ─▶ vectors ─▶ write to each
                     └ missing ─▶ later, until it was missing for the settle time ─▶ permitted? ─▶ delete in each

- What is written is what the source says now, whole, with the claim's number as its version: an older read cannot
  overwrite a newer one, in any order of arrival. It is written also where it seems to be there already: what a run
  still sends is older, and must find this version in its way.
- Reading is in real time, never by a search: a search may lag behind what an event tells of.
- A product that is not there is deleted only when it was not there for the settle time; one that a recipe leaves out
  by rule is deleted at once. Deletions of what readers have are permitted by a guard, or wait.
- An event that finds nothing changed came too early, perhaps: it is looked at once more after the settle time.
- What has its vector kept already is written before a model is asked, for readers first: a price waits for no model,
  and no generation for the model of another.
- Each product has its own outcome, the weightiest of what became of it in each generation. Trouble of a whole
  dependency is raised, and says which (`extra["dependency"]`); an answer that does not come in time is trouble, too.
  Trouble of a single generation says which as well (`extra["fed"]`).
"""

import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
from anyio import create_task_group, fail_after, to_thread

from app.errors import Blocked, EmbedderError, EngineUnavailable, IndexMissing, LeaseLost, Problem
from app.sync.flow import plainly
from app.sync.load import send
from app.sync.outcomes import (
    ABSENT,
    UNCHANGED,
    WITHHELD,
    WITHHELD_SECONDS,
    Applied,
    Done,
    Failed,
    Fed,
    FeedMissing,
    Later,
    Outcome,
    Reach,
    Told,
)
from app.sync.prepare import Preparer, body
from app.sync.vectors import Vectorizer, content_key
from app.sync.words import Batch, Document, Line, Page, Receipt, Slice, feed_of

__all__ = [
    "ABSENT", "UNCHANGED", "WITHHELD", "Applied", "Done", "Failed", "Fed", "FeedMissing", "Later", "Outcome", "Reach",
    "Told", "apply", "asking",
]  # fmt: skip

ANSWER_SECONDS, WRITE_SECONDS = 10.0, 15.0
"""How long reading some products, and writing them to one generation, may take."""

WHOLE = Slice(0, 1)


@dataclass
class _Work:
    """What one recipe makes of the products: *batch* has its vectors, *unknown* are documents that a model must be
    asked about, *left_out* the products that must not be there; `hashes` the inputs of what is written."""

    fed: list[Fed]
    batch: Batch
    left_out: set[str]
    unknown: list[Document] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)

    def lines(self, reach: Reach, going: Collection[str], number: int) -> Sequence[Line]:
        """What is to be written. CPU only."""
        first, vectors = self.fed[0], self.batch.vectors
        assert vectors is not None
        stamp, now = first.embedder.stamp, datetime.now(UTC)
        bodies = [(one.id, body(one, stamp, first.tenant, first.recipe.lang, now)) for one in self.batch.documents]
        deletions = reach.target.deletions([one for one in going if one in self.left_out], number)
        return [*reach.target.lines(bodies, vectors, number), *deletions]


# --- apply -----------------------------------------------------------------------------------------------------------


async def apply(reach: Reach, told: Sequence[Told], number: int) -> Applied:
    """Bring every fed generation to what the source says of these products, under *number*.

    Raises `Problem`, with the dependency in trouble; what was written by then may be written again.
    """
    applied = Applied()
    if not reach.fed:
        applied.outcomes = {one.product_id: Done() for one in told}
        return applied
    works = await _read(reach, told, applied)
    held = await _held(reach, [one.product_id for one in told])
    for work in works:
        await _recall(reach, work)
    await _write(reach, works, await _permitted(reach, works, held, applied), number, applied)
    for work in works:
        if work.unknown and await _embedded(reach, work, applied):
            await _write(reach, [work], (), number, applied)
    _conclude(reach, told, works, held, applied)
    return applied


async def _read(reach: Reach, told: Sequence[Told], applied: Applied) -> list[_Work]:
    """The products by each recipe, that of the readers first."""
    groups = _by_recipe(sorted(reach.fed, key=lambda one: one.state != "live"))
    preparers = [Preparer(fed[0].recipe) for fed in groups]
    wanted = sorted({pattern for preparer in preparers for pattern in preparer.wanted})
    async with asking(reach.source_name):
        hits = await reach.source.get([one.product_id for one in told], wanted)
    there = {hit.id for hit in hits}
    gone = {one.product_id for one in told if one.product_id not in there and _is_gone(reach, one, applied)}
    works = []
    for fed, preparer in zip(groups, preparers, strict=True):
        batch = await to_thread.run_sync(preparer.prepare, Page(WHOLE, hits, None, 0))
        rule = {reject.product_id for reject in batch.rejects if reject.by == "rule"}
        applied.refuse([reject for reject in batch.rejects if reject.by != "rule"])
        works.append(_Work(fed, batch, rule | gone))
    return works


def _by_recipe(fed: Sequence[Fed]) -> Sequence[list[Fed]]:
    groups: dict[str, list[Fed]] = {}
    for one in fed:
        stamp = one.embedder.stamp
        groups.setdefault(f"{one.recipe.model_dump_json()} {one.tenant} {stamp.alias} {stamp.version}", []).append(one)
    return list(groups.values())


def _is_gone(reach: Reach, one: Told, applied: Applied) -> bool:
    """Whether it was missing for long enough; else it is looked at again when it will have been."""
    left = reach.settle_seconds - (one.missing_for or 0.0)
    if left > 0:
        applied.note(one.product_id, Later("missing", left, missing=True))
    return left <= 0


async def _held(reach: Reach, ids: Sequence[str]) -> Mapping[str, str | None]:
    """The input hash of each product that readers have."""
    if reach.live is None:
        return {}
    async with asking(reach.target_name):
        try:
            hits = await reach.target.get(reach.live.index, ids, ["input_hash"])
        except IndexMissing as gone:
            gone.extra["fed"] = reach.live  # one index is gone, its engine is well
            raise
    return {hit.id: hit.source.get("input_hash") for hit in hits}


@asynccontextmanager
async def asking(dependency: str) -> AsyncIterator[None]:
    """What is raised in here is the trouble of *dependency*, unless it says otherwise; so is an answer that does not
    come."""
    try:
        with fail_after(ANSWER_SECONDS):
            yield
    except TimeoutError:
        detail = f"No answer of {dependency} within {ANSWER_SECONDS:g} seconds."
        raise EngineUnavailable(detail, code="engine_timeout", dependency=dependency) from None
    except Problem as problem:
        problem.extra.setdefault("dependency", dependency)
        raise


# --- vectors ---------------------------------------------------------------------------------------------------------


async def _recall(reach: Reach, work: _Work) -> None:
    """The vectors that are kept; the documents of the others are left for later."""
    stamp, documents = work.fed[0].embedder.stamp, work.batch.documents
    keys = {one.id: content_key(one.text_hash, stamp) for one in documents}
    async with asking(reach.target_name):
        known = await reach.store.known(sorted(set(keys.values())), stamp.dims) if keys else {}
    ready = [one for one in documents if keys[one.id] in known]
    work.unknown = [one for one in documents if keys[one.id] not in known]
    vectors = np.stack([known[keys[one.id]] for one in ready]) if ready else np.empty((0, stamp.dims), np.float32)
    work.batch = replace(work.batch, documents=ready, vectors=vectors)
    work.hashes = {one.id: one.input_hash for one in documents}
    reach.figures.add(reused=len(ready))


async def _embedded(reach: Reach, work: _Work, applied: Applied) -> bool:
    """Whether the model made vectors of what is unknown; without it those wait, and all others have gone on."""
    vectorizer = Vectorizer(work.fed[0].embedder, reach.store, reach.limits, reach.figures)
    try:
        work.batch = await vectorizer(replace(work.batch, documents=work.unknown, vectors=None, rejects=()))
    except EmbedderError as trouble:
        for one in work.unknown:
            applied.note(one.id, Later(trouble.code, detail=trouble.detail))
        applied.speechless += [(fed, trouble) for fed in work.fed]
        return False
    except Problem as problem:
        problem.extra.setdefault("dependency", reach.target_name)
        raise
    applied.refuse(work.batch.rejects)
    applied.spoke += work.fed
    return True


# --- write -----------------------------------------------------------------------------------------------------------


async def _permitted(
    reach: Reach, works: Sequence[_Work], held: Mapping[str, str | None], applied: Applied
) -> Collection[str]:
    """What may be deleted where it must not be; what readers have and would lose needs the guard's word."""
    going = set().union(*(work.left_out for work in works))
    asked = sorted(one for work in works if reach.live in work.fed for one in work.left_out & held.keys())
    if not asked:
        return going
    allowed = set(await reach.permit(asked))
    detail = "More deletions in an hour than policy.shrink lets events make: they wait; a run that is approved may."
    kept = {one for one in asked if one not in allowed}
    for one in kept:
        applied.note(one, Later(WITHHELD, WITHHELD_SECONDS, detail))
    return going - kept


async def _write(reach: Reach, works: Sequence[_Work], going: Collection[str], number: int, applied: Applied) -> None:
    """The same to every generation of a recipe, all at once; what one of them refuses is no one's."""
    troubles: list[tuple[Fed, Problem]] = []
    took: list[Fed] = []

    async def feed(fed: Fed, lines: Sequence[Line]) -> None:
        try:
            receipt = await _sent(reach, fed, lines)
        except LeaseLost:
            raise
        except Problem as problem:
            troubles.append((fed, problem))
            return
        took.append(fed)
        applied.refuse(receipt.rejects)
        applied.newest = max(applied.newest, receipt.newest)

    with plainly():
        async with create_task_group() as group:
            for work in works:
                lines = await to_thread.run_sync(work.lines, reach, going, number)
                for fed in work.fed if lines else ():
                    group.start_soon(feed, fed, lines)
    if troubles:
        raise _worst(reach, troubles, bool(took))


async def _sent(reach: Reach, fed: Fed, lines: Sequence[Line]) -> Receipt:
    """*lines* to one generation, while their number is young. Raises `LeaseLost` when it is not."""
    if time.monotonic() >= reach.until:
        raise LeaseLost("What was read is too old to be written: whoever takes these events back reads it again.")
    try:
        with fail_after(WRITE_SECONDS):
            return await send(reach.target, feed_of(fed.index), lines, reach.limits)
    except LeaseLost:
        detail = f"{fed.index} has no alias {feed_of(fed.index)} any more: was it deleted? A full run makes a new one."
        raise FeedMissing(detail) from None
    except TimeoutError:
        detail = f"{fed.index} took no documents within {WRITE_SECONDS:g} seconds."
        raise EngineUnavailable(detail, code="engine_timeout") from None


def _worst(reach: Reach, troubles: Sequence[tuple[Fed, Problem]], took: bool) -> Problem:
    """The live generation's trouble before that of others. It is the generation's own, and says so, where its engine
    answers: refuses for good, or takes what another one is sent."""
    fed, problem = next((one for one in troubles if one[0].state == "live"), troubles[0])
    problem.extra["dependency"] = reach.target_name
    if took or isinstance(problem, Blocked) or not problem.transient:
        problem.extra["fed"] = fed
    return problem


# --- conclude --------------------------------------------------------------------------------------------------------


def _conclude(
    reach: Reach, told: Sequence[Told], works: Sequence[_Work], held: Mapping[str, str | None], applied: Applied
) -> None:
    """An outcome for everything that has none yet: it was written, or deleted."""
    live = next((work for work in works if reach.live in work.fed), None)
    applied.hashes = live.hashes if live else {}
    for one in told:
        went = any(one.product_id in work.left_out for work in works)
        if live is not None and not one.looked and _is_unchanged(one, live, held):
            applied.note(one.product_id, Later(UNCHANGED, reach.settle_seconds, missing=False, looked=True))
        elif went:
            taken = live is not None and one.product_id in live.left_out and one.product_id in held
            applied.note(one.product_id, Done(deleted=True, code=None if taken else ABSENT))
        else:
            applied.note(one.product_id, Done())


def _is_unchanged(one: Told, live: _Work, held: Mapping[str, str | None]) -> bool:
    """Whether readers had it as it should be already. One that was missing has been looked for again by now."""
    if one.product_id in live.left_out:
        return one.product_id not in held and one.missing_for is None
    return one.product_id in live.hashes and live.hashes[one.product_id] == held.get(one.product_id)
