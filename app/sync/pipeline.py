"""The pipeline of one run, READ THIS FIRST: plan, draft, fill, seal, verify, promote, clean.

        plan ─▶ draft ─▶ read ═▶ prepare ═▶ differ ═▶ vectors ═▶ load ═▶ absences ─▶ seal ─▶ verify ─▶ promote ─▶ clean
                         slices                       store,     bulk
                                                      embedder

A draft is a fresh index or a clone of the live one (`app.sync.deciding` says which, and why). Either way every product
of one point in time passes through; of a clone, what is held as it is goes no further (`app.sync.comparing`).

Order matters. The draft is registered before its index exists, so that a dead run leaves nothing unknown. The run's
number is taken before the source is refreshed, resolved and its point in time opened, so that an older read cannot
overwrite a newer one. A vector is kept before a document is loaded with it. The last bulk is in before the draft is
sealed; nothing is proven that is not sealed; nothing is promoted that is not proven.

Leaving early (an error, a cancel) closes the point in time and drops the draft. Two exceptions: a draft that its
verdict refused stays for inspection until the next run, and once promotion has begun only a switch that is known not
to have moved lets the draft go. A worker that lost its lease drops nothing: the draft belongs to whoever took over.
A clone in which nothing differed is dropped too, and its run is `ready`: readers have what they should have already.

A repair has no draft: what differs is written into the live generation, one document by one, under numbers taken before
the source was read, as single changes are.
"""

from contextlib import suppress
from dataclasses import replace

from anyio import current_time

from app.errors import EngineBusy, EngineUnavailable, LeaseLost, Problem, RunCanceled, SwitchSpent
from app.sync.comparing import Outgrown
from app.sync.deciding import decided
from app.sync.drafting import PromotionOpen, VerdictRefused, drafted, drop, repairable
from app.sync.filling import fill
from app.sync.planning import Plan
from app.sync.pricing import outlined, priced
from app.sync.proof import Proof
from app.sync.running import Ports, enter, opened, wait
from app.sync.sealing import healthy, seal
from app.sync.verify import verify, verify_unchanged
from app.sync.words import Draft, Verdict

APPLYING = "they are being applied"

CATCH_UP_SECONDS, LOOK_SECONDS = 60.0, 0.25
"""How long a promotion waits for events, at most, and how often it looks."""

STANDARD = "standard"
"""The analyser that every engine has."""


async def sync(ports: Ports) -> Verdict | None:
    """Bring the alias of a run to a generation that is what one point in time holds; None from a dry run."""
    await enter(ports, "planning")
    plan = await decided(ports, await analysed(ports, await ports.plan()))
    if ports.dry_run:
        await priced(ports, plan)
        return None
    await ports.ledger.decide(plan.strategy, await outlined(ports, plan))
    try:
        verdict = await (repaired(ports, plan) if plan.repairs else built(ports, plan))
    except Outgrown as outgrown:
        if plan.repairs:
            raise
        plan = replace(plan, clones=False, why=outgrown.detail)
        ports.tally.begin_again()
        await ports.ledger.begin_again()
        await ports.ledger.decide(plan.strategy, await outlined(ports, plan))
        verdict = await built(ports, plan)
    await enter(ports, "cleaning")
    with suppress(EngineUnavailable, EngineBusy):  # all is done: what could not be cleaned now, the sweeper will
        await ports.clean()
    return verdict


async def built(ports: Ports, plan: Plan) -> Verdict:
    """A draft, filled, sealed, proven and promoted; or dropped when it came out as the live generation is."""
    async with drafted(ports, plan) as draft:
        version = await ports.ledger.number()
        async with opened(ports) as snapshot:
            await enter(ports, "filling")
            comparison, sample = await fill(ports, plan, draft, snapshot, version)
            health, differs = "", not plan.clones or changes(ports) > 0
            if differs:
                await enter(ports, "sealing")
                health = await seal(ports, plan, draft)
            await enter(ports, "verifying")
            proof = Proof(ports, plan, draft, snapshot, comparison, sample, health)
            verdict = await (verify(proof) if differs else verify_unchanged(proof))
        await ports.ledger.pit(None)
        await judged(ports, draft, verdict)
        if not differs:
            await drop(ports, draft)
            return verdict
        await caught_up(ports)
        await enter(ports, "promoting")
        await promote(ports, draft)
    return verdict


async def repaired(ports: Ports, plan: Plan) -> Verdict:
    """The live generation, in which each product that is not as it should be was written or deleted by itself."""
    live = repairable(plan)
    version = await ports.ledger.number()
    async with opened(ports) as snapshot:
        await enter(ports, "filling")
        comparison, sample = await fill(ports, plan, live, snapshot, version)
        await ports.target.refresh(live.index)
        await enter(ports, "verifying")
        health = await healthy(ports.target, live, plan.spec.target.replicas)
        verdict = await verify(Proof(ports, plan, live, snapshot, comparison, sample, health))
    await ports.ledger.pit(None)
    await judged(ports, live, verdict)
    return verdict


async def analysed(ports: Ports, plan: Plan) -> Plan:
    """The same plan, with `standard` in the place of an analyser that this engine lacks; the verdict says so."""
    if plan.shape.analyzer == STANDARD or await ports.target.analyses(plan.shape):
        return plan
    return replace(plan, shape=replace(plan.shape, analyzer=STANDARD))


# --- prove, promote --------------------------------------------------------------------------------------------------


def changes(ports: Ports) -> int:
    """How many documents of the draft are not as they were."""
    counts = ports.tally.counts
    return counts.get("loaded", 0) + counts.get("deleted", 0)


async def judged(ports: Ports, draft: Draft, verdict: Verdict) -> None:
    """The verdict stands on the run. Raises `VerdictRefused` unless it passed."""
    await ports.ledger.verdict(draft, verdict)
    if not verdict.passed:
        raise VerdictRefused(refusal(verdict), code="verdict_refused")


async def caught_up(ports: Ports) -> None:
    """Wait until what events told before this moment is in the draft, so that readers never go back in time.

    The wait is bounded, and what it is for is told: promoting without it loses nothing, as events go on afterwards.
    """
    mark, deadline, told = await ports.ledger.event_mark(), current_time() + CATCH_UP_SECONDS, ""
    while (found := await ports.ledger.waiting(mark))[0] and current_time() < deadline:
        events, why = found
        if (why or APPLYING) != told:
            told = why or APPLYING
            await ports.ledger.note("note", {"waiting_for_events": events, "why": told})
        await wait(ports, LOOK_SECONDS)
    if found[0]:
        await ports.ledger.note("note", {"waited_for_events": CATCH_UP_SECONDS, "left": found[0], "why": told})


async def promote(ports: Ports, draft: Draft) -> None:
    """The numbered switch. Only one that is known not to have moved lets the draft go."""
    try:
        await ports.ledger.promote(draft)
    except (SwitchSpent, RunCanceled, LeaseLost):
        raise
    except Problem as problem:
        raise PromotionOpen(
            f"The switch may have moved and is being settled: {problem.detail}", code=problem.code
        ) from problem


def refusal(verdict: Verdict) -> str:
    """What was wrong, check by check."""
    wrong = [check for check in verdict.checks if not check.passed]
    return " ".join(
        f"{check.check}: {check.detail or f'expected {check.expected}, found {check.found}.'}" for check in wrong
    )
