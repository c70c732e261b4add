"""An order becomes a run: first what the database knows, then what the engine says, then the row.

    repeated key? ─▶ that run          another run active, held? ─▶ 409          could not succeed? ─▶ 422, all findings
          └── no ──────────▶ └── no ──────────────▶ admission ──▶ └── no ──────▶ the run, queued

The engine is asked outside of any transaction, so the last step looks at everything again: what changed in between is
answered as if the order had come a moment later.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import structlog

from app import admission, catalogues, maintenance, runs
from app.db import Database, ReadSession, heard
from app.errors import (
    Blocked,
    EmbedderBusy,
    EmbedderUnavailable,
    EngineBusy,
    EngineUnavailable,
    Problem,
    Refused,
    RunFailed,
    Unavailable,
)
from app.models import Catalogue, Run
from app.progress import POLL_SECONDS

if TYPE_CHECKING:
    from app.connections import Connections

PLAN_SECONDS = 30.0
"""How long the order of a dry run waits for its plan; then it is answered with the run, which goes on."""

PASSING = frozenset(
    kind.code for kind in (Blocked, EmbedderBusy, EmbedderUnavailable, EngineBusy, EngineUnavailable, Unavailable)
) | {"database_unavailable"}
"""Codes of errors after which the same dry run may succeed a moment later."""

log = structlog.get_logger("reshelve.orders")


@dataclass(frozen=True)
class Asked:
    """An order, who gave it, under which idempotency key, in which request."""

    order: runs.Order
    who: str
    key: str | None = None
    request_id: str | None = None


async def place(db: Database, connections: "Connections", asked: Asked) -> Run:
    """The queued run of an order, or the one that its key stands for.

    Raises `Conflict` (`active` with `run_id`, `held`, `switching`), `Refused` with all findings, `NotSupportedYet`,
    `Invalid` for a key that came with another body, `NotFound`.
    """
    async with db.reading() as session:
        known, catalogue = await _look(session, asked)
    if known is not None:
        return known
    await admission.check(db, connections, catalogue)
    async with db.writing() as session:
        run = await runs.request(session, asked.order, asked.who, key=asked.key, request_id=asked.request_id)
    log.info("run_requested", run_id=run.id, catalogue=run.catalogue, strategy=run.strategy, who=asked.who)
    return run


async def _look(session: ReadSession, asked: Asked) -> tuple[Run | None, Catalogue]:
    """The run that the key stands for, and the catalogue. Raises what is certain already."""
    order = asked.order
    known = await runs.known(session, order, asked.who, asked.key) if asked.key else None
    if known is None:
        await maintenance.check(session)
    name = order.catalogue or (known.catalogue if known else None)
    catalogue = await (catalogues.get(session, name) if name else catalogues.only(session))
    if known is None:
        await _check_free(session, catalogue, order)
    return known, catalogue


async def _check_free(session: ReadSession, catalogue: Catalogue, order: runs.Order) -> None:
    await runs.check_none_active(session, catalogue.name)
    runs.check_held(catalogue, dry_run=order.dry_run, release=order.release)


# --- dry runs --------------------------------------------------------------------------------------------------------


async def planned(db: Database, run: Run, draining: anyio.Event, seconds: float = PLAN_SECONDS) -> Run:
    """A dry run when it is ready, or as it stands after *seconds* or when this process is stopping.

    Raises what ended it: `Refused` with its findings, `Unavailable`, else `RunFailed`; each with the `run_id`.
    """
    with anyio.move_on_after(seconds):
        while run.state not in runs.OVER and not draining.is_set():
            rung = db.bell.listen(run.id)
            async with db.reading() as session:
                run = await runs.get(session, run.id)
            if run.state not in runs.OVER:
                await heard(rung, POLL_SECONDS)
    if run.error:
        raise _failure(run, run.error)
    return run


def _failure(run: Run, error: Mapping[str, Any]) -> Problem:
    code, detail = error["code"], error["detail"]
    if found := error.get("findings"):
        return Refused(detail, code=code, findings=found, run_id=run.id)
    kind = Unavailable if code in PASSING else RunFailed
    return kind(detail, code=code, run_id=run.id)
