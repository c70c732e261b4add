"""A draft: registered before its index exists, made empty or as a clone of the live one, dropped when left early.

        empty:  register ─▶ create
        clone:  register ─▶ block live ─▶ clone ─▶ mark ─▶ feed ─▶ unblock live

An engine clones only what refuses writes, so the live index does for as long as a clone takes (under two seconds).
The clone joins the fed set while live is still blocked: a single change is in live before the clone, and so in both,
or it is refused and comes back when both are fed. A block that a dead process left behind is lifted by whoever meets
it (the sweeper, the settling of the run).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import CancelScope, move_on_after

from app.errors import LeaseLost, RunFailed
from app.sync.planning import Plan
from app.sync.running import Ports
from app.sync.words import Draft

DROP_SECONDS = 3.0
"""How long leaving may take for the draft: a cancel is over within ten seconds, whatever the engine does."""


class VerdictRefused(RunFailed):
    """Verification refused the draft; it stays for inspection until the next run."""


class PromotionOpen(RunFailed):
    """The switch may have moved: whoever finds the run settles it."""


@asynccontextmanager
async def drafted(ports: Ports, plan: Plan) -> AsyncIterator[Draft]:
    """A generation that is being built and removes itself when it is left early."""
    base = plan.base.id if plan.base and plan.clones else None
    draft = await ports.ledger.register(plan.recipe, plan.recipe_hash, plan.stamp, base)
    try:
        await (_clone(ports, plan, draft) if plan.clones else _create(ports, plan, draft))
        yield draft
    except (VerdictRefused, PromotionOpen, LeaseLost):
        raise
    except BaseException:
        ports.tally.leave()
        with CancelScope(shield=True), move_on_after(DROP_SECONDS):
            await drop(ports, draft)
        raise


async def _create(ports: Ports, plan: Plan, draft: Draft) -> None:
    aliases, mark = await ports.ledger.aliases(draft), await ports.ledger.mark(draft)
    await ports.target.create(draft.index, plan.shape, aliases, mark)


async def _clone(ports: Ports, plan: Plan, draft: Draft) -> None:
    assert plan.base is not None
    aliases, mark = await ports.ledger.aliases(draft), await ports.ledger.mark(draft)
    with ports.tally.timed("clone"):
        try:
            await ports.target.block(plan.base.index)
            await ports.target.clone(plan.base.index, draft.index, aliases)
            await ports.target.remark(draft.index, mark)
            await ports.ledger.feed(draft)
        finally:
            with CancelScope(shield=True), move_on_after(DROP_SECONDS):
                await ports.target.unblock(plan.base.index)


def repairable(plan: Plan) -> Draft:
    """The live generation as something to write to."""
    live = plan.base
    assert live is not None
    return Draft("", "", live.id, live.index, 0, plan.recipe_hash, repairs=True)


async def drop(ports: Ports, draft: Draft) -> None:
    """Row first: it tells whether the draft is still ours; the sweeper knows what to do with an index left behind."""
    await ports.ledger.abandon(draft, "dropped")
    await ports.target.drop(draft.index)
