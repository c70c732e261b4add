"""The numbered lines of a run's and of a catalogue's story: what streams send.

A line of a run takes its `seq` from the run's row and its `number` from the catalogue's row, in this order, and keeps
both rows locked until its transaction commits. So numbers have no gaps, commit order is number order, and a reader
that has seen line n has seen every line before it: `Last-Event-ID` resumes without loss or repeat. Lines without a
run (a rollback, a release) have a `number` only.

Writers ring the database's bell after their commit; readers of other processes look every `POLL_SECONDS`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import update
from sqlmodel import col, func, select

from app.columns import iso
from app.db import Bell, ReadSession, WriteSession, heard
from app.errors import NotFound
from app.models import Catalogue, Progress, Run

__all__ = ["POLL_SECONDS", "Bell", "heard", "last", "lines", "oldest", "say", "view"]

POLL_SECONDS = 0.5
"""How late a line written by another process may be seen."""

PAGE = 500
"""Lines that one read takes at most."""

BIGGEST = 2**63 - 1


async def say(
    session: WriteSession, catalogue: str, kind: str, data: Mapping[str, Any], run: Run | str | None = None
) -> Progress:
    """Add one line; *kind* is state, stage, counts, note or verdict. Raises `NotFound` when its subject is gone.

    Two updates and one insert. Rings the topics of the run (its id) and of the catalogue (`topic`).
    """
    run_id = run.id if isinstance(run, Run) else run
    seq = await _next_seq(session, run_id) if run_id else None
    line = Progress(
        catalogue=catalogue,
        number=await _next_number(session, catalogue),
        run=run_id,
        seq=seq,
        kind=kind,
        data=dict(data),
    )
    session.add(line)
    await session.flush()
    session.ring(topic(catalogue))
    if run_id:
        session.ring(run_id)
    return line


async def _next_seq(session: WriteSession, run_id: str) -> int:
    bump = update(Run).where(col(Run.id) == run_id).values(progress_seq=col(Run.progress_seq) + 1)
    seq = (await session.exec(bump.returning(col(Run.progress_seq)), execution_options=_QUIET)).scalar_one_or_none()
    if seq is None:
        raise NotFound(f"There is no run {run_id}.")
    return int(seq)


async def _next_number(session: WriteSession, catalogue: str) -> int:
    bump = update(Catalogue).where(col(Catalogue.name) == catalogue)
    bump = bump.values(progress_seq=col(Catalogue.progress_seq) + 1)
    number = (
        await session.exec(bump.returning(col(Catalogue.progress_seq)), execution_options=_QUIET)
    ).scalar_one_or_none()
    if number is None:
        raise NotFound(f"There is no catalogue {catalogue}.")
    return int(number)


_QUIET = {"synchronize_session": False}


def topic(catalogue: str) -> str:
    """The bell's topic for all lines of a catalogue; a run's topic is its id."""
    return f"catalogue:{catalogue}"


async def lines(
    session: ReadSession, after: int = 0, limit: int = PAGE, *, run: str | None = None, catalogue: str | None = None
) -> Sequence[Progress]:
    """The stored lines beyond *after*, oldest first: of a run (by `seq`) or of a catalogue (by `number`)."""
    subject, counter = _subject(run, catalogue)
    query = select(Progress).where(subject, counter > min(max(after, 0), BIGGEST))
    return (await session.exec(query.order_by(counter).limit(min(max(limit, 1), PAGE)))).all()


async def oldest(session: ReadSession, *, run: str | None = None, catalogue: str | None = None) -> int | None:
    """The first number still stored, None without any: who asks for less than the one before it gets a `resync`."""
    subject, counter = _subject(run, catalogue)
    found: int | None = (await session.exec(select(func.min(counter)).where(subject))).one()
    return found


async def last(session: ReadSession, *, run: str | None = None, catalogue: str | None = None) -> int | None:
    """The last number stored, None without any."""
    subject, counter = _subject(run, catalogue)
    found: int | None = (await session.exec(select(func.max(counter)).where(subject))).one()
    return found


def _subject(run: str | None, catalogue: str | None) -> tuple[Any, Any]:
    if run is not None:
        return col(Progress.run) == run, col(Progress.seq)
    return col(Progress.catalogue) == catalogue, col(Progress.number)


def view(line: Progress, *, of_catalogue: bool = False) -> dict[str, Any]:
    """A line as clients see it; `seq` counts within the run, or within the catalogue for its stream."""
    seq = line.number if of_catalogue or line.seq is None else line.seq
    return {"seq": seq, "at": iso(line.at), "kind": line.kind, "run": line.run, "data": line.data}
