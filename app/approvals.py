"""Approvals: a run withheld deletions, and somebody says how many may pass.

    run that withheld ──approve(deletions)──▶ a new run with that ceiling ─┬─▶ ready: they are made
      (or was refused as a shrink)                                         └─▶ more were found: withheld anew, and
                                                                               that run may be approved in its turn

Nothing waits for an approval: it is a new run of the same order that looks at the source afresh and settles absences
in its own draft. It names a ceiling, not a list, because the list would be of yesterday. Each run is approved once, and
that is on record; a retry of the new run keeps its ceiling.
"""

from secrets import token_hex

from sqlmodel import col, select

from app import audit, runs
from app.db import WriteSession
from app.errors import Conflict
from app.models import Run

SHRINK = "shrink"
"""The check of a verdict that refuses a full run which holds too little."""


async def approve(session: WriteSession, id: str, deletions: int, who: str, request_id: str | None = None) -> Run:  # noqa: A002
    """A new run of the order of run *id* that may make *deletions* of the withheld deletions.

    Raises `NotFound`, and `Conflict` with code `not_over`, `nothing_withheld`, `approved_already` or one of
    `runs.queue`.
    """
    old = await runs.locked(session, id)
    await _check(session, old)
    run = Run(
        id=token_hex(8), catalogue=old.catalogue, strategy=old.strategy, trigger="approval", reason=old.reason,
        requested_by=who, request_id=request_id, ceiling=deletions, approves=old.id,
    )  # fmt: skip
    await runs.queue(session, run)
    await audit.record(session, who, "approve", run.catalogue, old.id, deletions=deletions)
    return run


async def _check(session: WriteSession, old: Run) -> None:
    if old.state not in runs.OVER:
        raise Conflict(f"Run {old.id} is {old.state}: wait until it is over.", code="not_over")
    if old.dry_run:
        raise Conflict(f"Run {old.id} is a plan: order the run itself, and approve what it withholds.", code="dry_run")
    if not withholds(old):
        raise Conflict(f"Run {old.id} withheld nothing: there is nothing to approve.", code="nothing_withheld")
    used = select(Run.id).where(col(Run.approves) == old.id).limit(1)
    if first := (await session.exec(used)).first():
        why = f"Run {old.id} was approved already, by run {first}: approve what that one withheld, or retry it."
        raise Conflict(why, code="approved_already", run_id=first)


def withholds(run: Run) -> bool:
    """Whether *run* kept deletions back: by itself, or because its verdict found too little left."""
    checks = (run.verdict or {}).get("checks", ())
    return bool(run.withheld) or any(check["check"] == SHRINK and not check["passed"] for check in checks)
