"""Absences: a run never trusts one. What an index holds and the point in time lacks is looked for again, by its id.

        unseen ─▶ settle time ─▶ new number ─▶ read by id ─┬─ there, and fit ──▶ written into the draft
                                                           └─ gone, or left out ─▶ deleted from the draft

A shop deletes a product before it indexes it again, so a point in time may fall in between. Only what is missing still,
after the settle time and under a number taken before the second look, is deleted; a fresh index does not hold it in
the first place, so there it is only counted.

Deletions over both limits of `policy.shrink` are withheld by a run that builds on a clone, all of them, until somebody
approves a ceiling: what else differs is carried. Their ids are forgotten once they are too many to be deleted, so
memory stays bounded.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from anyio import to_thread

from app.sync.comparing import Comparison, Outgrown, differ
from app.sync.holdings import holding_of, id_keys
from app.sync.load import send
from app.sync.planning import Plan
from app.sync.prepare import Preparer
from app.sync.running import Ports, wait
from app.sync.words import Batch, Change, Draft, Page, Slice, Withheld

AT_ONCE = 1000
"""Ids of one look."""

Write = Callable[[Batch, int], Awaitable[None]]
"""Writes a batch of products that came back, under a number."""


@dataclass
class Gone:
    """What is missing for good: counted, and known by id as long as it may be deleted (*most*)."""

    most: int
    count: int = 0
    ids: list[str] = field(default_factory=list)

    def add(self, ids: Sequence[str]) -> None:
        """These are missing."""
        self.count += len(ids)
        self.ids.extend(ids)
        if self.too_many:
            self.ids.clear()

    @property
    def too_many(self) -> bool:
        """Whether a guard holds them back."""
        return self.count > self.most


async def settle_absences(
    ports: Ports, plan: Plan, draft: Draft, comparison: Comparison, write: Write
) -> Sequence[Withheld]:
    """Look again for everything unseen; delete what is gone from a clone. What a guard withheld."""
    if comparison.index is None:
        return ()
    ports.tally.add(deleted=0)
    if not comparison.held.unseen:
        return ()
    with ports.tally.timed("settle"):
        await wait(ports, plan.spec.policy.settle_seconds)
    number, gone = await ports.ledger.number(), Gone(allowed(ports, plan, len(comparison.held)))
    async for batch, missing in look_again(ports, plan, comparison):
        await write(batch, number)
        gone.add(missing)
    if plan.builds_on and gone.too_many:
        comparison.withheld = gone.count
        return [Withheld("shrink", gone.most, gone.count)]
    if plan.builds_on:
        await _delete(ports, draft, gone.ids, number)
    ports.tally.add(deleted=gone.count)
    await ports.ledger.changes([Change(one, "deleted") for one in gone.ids])
    return [Withheld("shrink", gone.most, gone.count)] if gone.too_many else ()  # the verdict of a full run refuses


def allowed(ports: Ports, plan: Plan, held: int) -> int:
    """How many deletions a run may make on its own, or by the ceiling that somebody approved of."""
    shrink = plan.spec.policy.shrink
    return max(shrink.documents, int(held * shrink.percent / 100), ports.ceiling or 0)


async def look_again(ports: Ports, plan: Plan, comparison: Comparison) -> AsyncIterator[tuple[Batch, Sequence[str]]]:
    """Everything unseen, read by id, some at a time: what is there after all, and the ids of what is not."""
    preparer = Preparer(plan.recipe)
    async for ids in _unseen(ports, comparison):
        batch = await differ(ports, plan, comparison, await _again(ports, preparer, comparison, ids))
        missing = await _still_unseen(comparison, ids)
        comparison.returned += len(ids) - len(missing)
        yield batch, missing


async def _unseen(ports: Ports, comparison: Comparison) -> AsyncIterator[Sequence[str]]:
    """The ids that the index holds and nobody has seen, some at a time."""
    assert comparison.index is not None
    async with holding_of(ports.target, comparison.index, 1) as (pages,):
        async for page in pages:
            ids = await _still_unseen(comparison, page.ids)
            for start in range(0, len(ids), AT_ONCE):
                yield ids[start : start + AT_ONCE]


async def _still_unseen(comparison: Comparison, ids: Sequence[str]) -> Sequence[str]:
    """Those of *ids* that are held and that nobody has seen."""
    unseen = await to_thread.run_sync(lambda: comparison.held.has_unseen(id_keys(ids)))
    return [one for one, missing in zip(ids, unseen, strict=True) if missing]


async def _again(ports: Ports, preparer: Preparer, comparison: Comparison, ids: Sequence[str]) -> Batch:
    """Those of *ids* that the source has after all; what is left out of them was counted when it was first met."""
    page = Page(Slice(0, 1), await ports.source.get(ids, preparer.wanted), None, 0)
    return replace(await to_thread.run_sync(comparison.prepared, preparer, page), rejects=())


async def _delete(ports: Ports, draft: Draft, ids: Sequence[str], number: int) -> None:
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        await send(ports.target, draft.fill, ports.target.deletions(some, number), ports.limits)
        ports.tally.moved()
        await ports.target.refresh(draft.index)
        if left := await _misplaced(ports, draft, some):
            why = f"{left} documents of the live index stand under other ids than their products'."
            raise Outgrown(why, code="outgrown")


async def _misplaced(ports: Ports, draft: Draft, ids: Sequence[str]) -> int:
    """How many documents of these products are left under other ids; what an event brought back meanwhile is not."""
    left = await ports.target.counted(draft.index, [{"terms": {"source_id": ids}}])
    return left - len(await ports.target.get(draft.index, ids, ["source_id"])) if left else 0
