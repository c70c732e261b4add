"""Sealing: no bulk of the run comes through any more, and the index is as readers need it."""

from app.sync.engine_port import Engine
from app.sync.planning import Plan
from app.sync.running import Ports
from app.sync.words import Draft

GREEN_SECONDS = 120.0
"""How long a sealed draft may take to get green where its replicas could be placed; then the verdict says so."""

MERGE_SECONDS = 1800.0
"""How long a force merge is waited for: it cannot be stopped, only left alone."""

MERGE_BYTES = 5 * 2**30
"""A larger generation is not merged to one segment: Lucene's own merges never make segments over 5 GB."""


async def seal(ports: Ports, plan: Plan, draft: Draft) -> str:
    """The draft as readers will have it; the health it reached.

    The write block returns when writes under way have ended; behind it the alias that let them in goes away. Then
    the draft accepts writes again: single changes will reach it through an alias of their own. A clone is not merged:
    it shares its segments with the generation it came from.
    """
    target, tally, spec = ports.target, ports.tally, plan.spec.target
    with tally.timed("settings"):
        await target.block(draft.index)
        await target.swap_alias(draft.index, draft.fill, draft.sealed)
        await target.unblock(draft.index)
        await target.settle(draft.index, spec.refresh_interval, spec.replicas)
        if plan.graph_later:
            await target.graph(draft.index, plan.shape)
    with tally.timed("refresh"):
        await target.refresh(draft.index)
    with tally.timed("green"):
        health = await healthy(target, draft, spec.replicas)
    if not plan.clones:
        with tally.timed("merge"):
            await merge(target, draft, spec.force_merge, plan.graph_later)
    await ports.ledger.sealed(draft, (await target.search_stats(draft.index))["documents"])
    return health


async def healthy(target: Engine, draft: Draft, replicas: int) -> str:
    """Green, or what there is after a bounded wait; with too few nodes for the replicas nobody waits for green."""
    placeable = (await target.about()).data_nodes > replicas
    return await target.green(draft.index, GREEN_SECONDS if placeable else 0)


async def merge(target: Engine, draft: Draft, policy: str, graph_later: bool) -> None:
    """One segment where that is asked for and not too large; a graph that was left for later is built here."""
    small = graph_later or (await target.search_stats(draft.index))["bytes"] <= MERGE_BYTES
    if policy == "full" and small:
        await target.merge(draft.index, MERGE_SECONDS)
        await target.refresh(draft.index)
