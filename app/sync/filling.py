"""Filling: every product of a point in time through the steps, into the index that a run may write to.

        read ═▶ prepare ═▶ differ ═▶ vectors ═▶ pack ═▶ load
        slices                       store,     bulk
                                     embedder

Then what the point in time lacks is looked for again (`app.sync.absences`).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from anyio import to_thread

from app.sync.absences import settle_absences
from app.sync.comparing import Comparison, compared_with, differ
from app.sync.engine_port import Target
from app.sync.flow import Step, flow
from app.sync.load import send
from app.sync.planning import Plan
from app.sync.ports import Snapshot
from app.sync.prepare import Preparer, body
from app.sync.proof import Sample
from app.sync.running import Ports
from app.sync.vectors import Vectorizer
from app.sync.words import Batch, Change, Draft, Line, Packed, Page, Reject

FOUND_BY_ALL = ("read", "embedded", "reused", "loaded", "truncated", "excluded", "rejected")
"""Counts that every strategy finds out."""


async def fill(ports: Ports, plan: Plan, draft: Draft, snapshot: Snapshot, version: int) -> tuple[Comparison, Sample]:
    """Every product of the point in time into the draft, but for the rejects; then what it lacks is looked for again.

    What was compared, and some of the documents, to be proven.
    """
    ports.tally.add(**dict.fromkeys(FOUND_BY_ALL, 0))
    base = plan.base.index if plan.base else None
    comparison = await compared_with(ports, plan, draft.index if plan.builds_on else base)
    preparer, sample = Preparer(plan.recipe), Sample()
    vectorizer = Vectorizer(ports.embedder, ports.store, ports.limits, ports.tally)
    pages = [ports.tally.reading(snapshot.pages(part, preparer.wanted)) for part in snapshot.parts]
    await flow(
        pages,
        Step(partial(prepare, ports, preparer, comparison)),
        Step(partial(differ, ports, plan, comparison)),
        *([Step(partial(renew, ports, preparer, comparison))] if plan.repairs else ()),
        Step(vectorizer, hands=ports.limits.embedding_hands),
        Step(partial(pack, ports, plan, version)),
        Step(partial(load, ports, plan, draft, sample), hands=ports.limits.bulk_hands),
    )
    await snapshot.check()

    async def write(batch: Batch, number: int) -> None:
        sample.refused -= {document.id for document in batch.documents}  # at a second look they are fit
        await load(ports, plan, draft, sample, await pack(ports, plan, number, await vectorizer(batch)))

    await ports.ledger.withhold(await settle_absences(ports, plan, draft, comparison, write))
    return comparison, sample


async def prepare(ports: Ports, preparer: Preparer, comparison: Comparison, page: Page) -> Batch:
    """Hits become documents or rejects, or are known already, in a thread: it is all computing."""
    with ports.tally.timed("prepare"):
        batch = await to_thread.run_sync(comparison.prepared, preparer, page)
    ports.tally.prepared(batch)
    return batch


async def renew(ports: Ports, preparer: Preparer, comparison: Comparison, batch: Batch) -> Batch:
    """The documents of a repair, read by id under a number of their own: they go where readers are, as events do."""
    if not batch.documents:
        return batch
    version = await ports.ledger.number()
    was = {document.id: document.input_hash for document in batch.documents}
    page = Page(batch.part, await ports.source.get(sorted(was), preparer.wanted), None, 0)
    again = await to_thread.run_sync(preparer.prepare, page)
    now = {document.id: document.input_hash for document in again.documents}
    comparison.moved.update(one for one in was if now.get(one) != was[one])
    changes = [change for change in batch.changes if change.product_id in now]
    return replace(batch, documents=again.documents, changes=changes, version=version)


async def pack(ports: Ports, plan: Plan, version: int, batch: Batch) -> Packed:
    """A batch as bulk lines, in a thread too."""
    version = batch.version or version
    with ports.tally.timed("load"):
        return Packed(batch, await to_thread.run_sync(encoded, ports.target, plan, batch, version), version)


def encoded(target: Target, plan: Plan, batch: Batch, version: int) -> Sequence[Line]:
    """The bulk lines of a batch."""
    now, spec = datetime.now(UTC), plan.spec
    bodies = [
        (document.id, body(document, plan.stamp, spec.tenant, plan.recipe.lang, now)) for document in batch.documents
    ]
    assert batch.vectors is not None
    return target.lines(bodies, batch.vectors, version)


async def load(ports: Ports, plan: Plan, draft: Draft, sample: Sample, packed: Packed) -> None:
    """A batch into the draft, through the alias that only this worker's fence opens."""
    batch, first = packed.batch, not sample.kept
    with ports.tally.timed("load"):
        receipt = await send(ports.target, draft.fill, packed.lines, ports.limits, ports.tally.retried("load"))
    ports.tally.loaded(receipt)
    sample.offer(batch, receipt.rejects)
    rejects = [*batch.rejects, *receipt.rejects]
    if not plan.repairs:  # what readers have is taken from them by a proven generation only
        await take_back(ports, draft, packed, rejects)
    if first and plan.graph_later:
        await ports.target.refresh(draft.index)  # a segment of its own: the merge rewrites only what is more than one
    await ports.ledger.reject(rejects)
    await ports.ledger.changes([change for change in batch.changes if change.product_id not in sample.refused])


async def take_back(ports: Ports, draft: Draft, packed: Packed, rejects: Sequence[Reject]) -> None:
    """What a clone holds of a product that was left out after all goes, too: a fresh index would not have it."""
    lost = [reject.product_id for reject in rejects if reject.product_id in packed.batch.held]
    if lost:
        await send(ports.target, draft.fill, ports.target.deletions(lost, packed.version), ports.limits)
        ports.tally.add(deleted=len(lost))
        await ports.ledger.changes([Change(one, "deleted") for one in lost])
