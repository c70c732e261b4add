"""Pricing: what a run would do, counted and priced. A dry run reads and compares everything and writes nothing.

It compares with the live generation by the same steps as a run, so its counts are those of a run at this moment. What
is absent from the point in time is looked for once more, but not waited for: shops delete and index again within
seconds, and nobody should wait for an estimate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from anyio import to_thread
from numpy.typing import NDArray

from app.sync.absences import Gone, allowed, look_again
from app.sync.comparing import Comparison, Outgrown, compared_with, differ
from app.sync.flow import Step, flow
from app.sync.planning import Plan
from app.sync.prepare import Preparer
from app.sync.running import Ports, enter, opened
from app.sync.tally import COUNTS
from app.sync.vectors import content_key
from app.sync.words import Batch, Page, Withheld

PRICED = ("texts_to_embed", "tokens", "usd", "bytes")


async def outlined(ports: Ports, plan: Plan) -> dict[str, Any]:
    """The plan of a run that begins: what a dry run of the same recipe found within the last hour, else what is known
    without reading everything."""
    foreseen = await ports.ledger.foreseen(plan.recipe_hash)
    if foreseen is not None and foreseen.get("strategy") == plan.strategy:
        return {**foreseen, "why": plan.why}
    counts = dict.fromkeys(COUNTS) | {"source": plan.products}
    nothing = dict.fromkeys(PRICED)
    return await _told(ports, plan, {"counts": counts, **nothing, "withheld": []}, plan.products)


async def priced(ports: Ports, plan: Plan) -> None:
    """The plan of a dry run, onto the run's row."""
    try:
        figures = await _figures(ports, plan)
    except Outgrown as outgrown:
        if plan.repairs:
            raise
        plan = replace(plan, clones=False, why=outgrown.detail)
        ports.tally.begin_again()
        figures = await _figures(ports, plan)
    await ports.ledger.decide(plan.strategy, await _told(ports, plan, figures, ports.tally.counts["source"]))


async def _told(ports: Ports, plan: Plan, figures: Mapping[str, Any], products: int) -> dict[str, Any]:
    pace = await ports.ledger.pace(plan.strategy)
    seconds = round(products / pace, 1) if pace else None
    return {
        "strategy": plan.strategy, "why": plan.why, "recipe": plan.recipe_hash, "findings": [], "seconds": seconds,
        **figures,
    }  # fmt: skip


@dataclass
class Bill:
    """What there is to embed and to write. Texts that several products share are paid for once."""

    keys: bytearray = field(default_factory=bytearray)
    size: int = 0

    def add(self, keys: Sequence[str], tokens: Sequence[int]) -> None:
        """Texts that no vector is known of."""
        pairs = np.array([[int(key[:16], 16) for key in keys], list(tokens)], np.uint64)
        self.keys += np.ascontiguousarray(pairs.T).tobytes()

    def texts(self) -> tuple[int, int]:
        """How many different texts, and how many tokens they have."""
        pairs: NDArray[np.uint64] = np.frombuffer(bytes(self.keys), np.uint64).reshape(-1, 2)
        _, first = np.unique(pairs[:, 0], return_index=True)
        return len(first), int(pairs[first, 1].sum())


async def _figures(ports: Ports, plan: Plan) -> dict[str, Any]:
    """Everything read and compared, nothing written."""
    comparison = await compared_with(ports, plan, plan.base.index if plan.base else None)
    preparer, bill = Preparer(plan.recipe), Bill()
    async with opened(ports) as snapshot:
        await enter(ports, "filling")
        await flow(
            [ports.tally.reading(snapshot.pages(part, preparer.wanted)) for part in snapshot.parts],
            Step(partial(_prepared, ports, preparer, comparison)),
            Step(partial(differ, ports, plan, comparison)),
            Step(partial(_billed, ports, plan, bill)),
        )
        withheld = await _absent(ports, plan, comparison)
    await ports.ledger.pit(None)
    texts, tokens = await to_thread.run_sync(bill.texts)
    counts = {name: ports.tally.counts.get(name) for name in COUNTS if name not in ("embedded", "reused", "loaded")}
    usd = None if ports.price is None else round(tokens * ports.price / 1_000_000, 6)
    return {
        "counts": dict.fromkeys(COUNTS) | counts, "texts_to_embed": texts, "tokens": tokens, "usd": usd,
        "bytes": bill.size, "withheld": withheld,
    }  # fmt: skip


async def _prepared(ports: Ports, preparer: Preparer, comparison: Comparison, page: Page) -> Batch:
    batch = await to_thread.run_sync(comparison.prepared, preparer, page)
    ports.tally.prepared(batch)
    return batch


async def _billed(ports: Ports, plan: Plan, bill: Bill, batch: Batch) -> None:
    """What the documents of a batch would cost."""
    texts = {content_key(document.text_hash, plan.stamp): document.text for document in batch.documents}
    bill.size += sum(len(document.text) + 4 * plan.stamp.dims for document in batch.documents)
    known = await ports.store.known(list(texts), plan.stamp.dims) if texts else {}
    unknown = [key for key in texts if key not in known]
    if unknown:
        bill.add(unknown, await ports.embedder.tokens([texts[key] for key in unknown]))


async def _absent(ports: Ports, plan: Plan, comparison: Comparison) -> list[dict[str, Any]]:
    """How many products are gone, and whether a guard would hold that back."""
    if comparison.index is None:
        return []
    gone = Gone(allowed(ports, plan, len(comparison.held)))
    async for _, missing in look_again(ports, plan, comparison):
        gone.add(missing)
    ports.tally.add(deleted=gone.count)
    if not gone.too_many:
        return []
    held = Withheld("shrink", gone.most, gone.count)
    return [{"guard": held.guard, "limit": held.limit, "found": held.found}]
