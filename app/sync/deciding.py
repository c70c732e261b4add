"""Deciding: a clone of the live generation or a fresh index, and why.

A clone costs what changed, so it is the default; a fresh index is built when somebody ordered one, and when a clone
could not become what the catalogue declares now, or would carry on what is wrong with the live index.
"""

from dataclasses import replace

from app.errors import RunFailed
from app.sync.planning import Plan
from app.sync.ports import Live
from app.sync.running import Ports

DELETED_PERCENT = 30
"""Deleted documents of an index over which a clone is not worth it: they are searched around, and cost disk."""


async def decided(ports: Ports, plan: Plan) -> Plan:
    """*plan* with what it builds on."""
    live = await ports.ledger.live()
    if live is None or live.origin != "own" or not await ports.target.resolve(live.index):
        live = None
    if ports.strategy == "repair":
        return _repair(plan, live)
    if live is None:
        return replace(plan, why="Nothing of ours is live yet.")
    why = await _why_fresh(ports, plan, live)
    if why:
        return replace(plan, base=live, why=why)
    return replace(plan, base=live, clones=True, why="Builds on the live generation.")


async def _why_fresh(ports: Ports, plan: Plan, live: Live) -> str:
    """Why no clone will do, empty when one will."""
    if ports.strategy == "full":
        return "A full run was ordered."
    if live.recipe_hash != plan.recipe_hash:
        return "Recipe, settings, tenant or model changed since the live generation was built."
    (info,) = await ports.target.resolve(live.index)
    if info.primaries != plan.spec.target.shards:
        return f"The live index has {info.primaries} shard(s), target.shards says {plan.spec.target.shards}."
    stats = await ports.target.search_stats(live.index)
    percent = 100 * stats["deleted"] / max(stats["documents"] + stats["deleted"], 1)
    return f"{percent:.0f} % of the live index are deleted documents." if percent > DELETED_PERCENT else ""


def _repair(plan: Plan, live: Live | None) -> Plan:
    """The plan of a repair. Raises `RunFailed` where only a fresh index would do."""
    if live is None:
        raise RunFailed("Nothing of ours is live: order a full run.", code="nothing_to_repair")
    if live.recipe_hash != plan.recipe_hash:
        why = "Recipe, settings, tenant or model changed since the live generation was built: order a full run."
        raise RunFailed(why, code="recipe_changed")
    return replace(plan, base=live, repairs=True, why="Repairs the live generation.")
