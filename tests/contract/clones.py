"""A run that clones the live generation, as far as the moment before its clone is fed."""

from app.ledger import RunLedger
from app.models import Generation
from app.sync.words import Draft
from tests.contract.world import RECIPE, STAMP, World


async def registered(world: World, live: Generation) -> tuple[RunLedger, Draft]:
    """The row is there, the live index refuses writes."""
    await world.order()
    ledger = await world.claim()
    await ledger.stage("planning")
    draft = await ledger.register(RECIPE, "hash", STAMP, cloned_from=live.id)
    await world.engine.block(live.index)
    return ledger, draft


async def cloning(world: World, live: Generation) -> tuple[RunLedger, Draft]:
    """The clone is there too, under the mark of what it was made of."""
    ledger, draft = await registered(world, live)
    await world.engine.clone(live.index, draft.index, await ledger.aliases(draft))
    return ledger, draft
