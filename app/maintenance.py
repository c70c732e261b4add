"""The maintenance mode of the whole installation: read-only, for the reason that a message tells.

Events are still accepted, and wait. Nothing is applied, no run is ordered, started or rolled back. A run that is under
way is not interrupted: whoever wants that cancels it.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import select

from app import audit
from app.db import ReadSession, WriteSession
from app.errors import Unavailable
from app.models import Installation
from app.notices import ARRIVED


class Mode(BaseModel):
    """What `PUT /maintenance` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    read_only: bool
    message: str | None = Field(None, max_length=1000)


async def current(session: ReadSession) -> Installation:
    """How it stands."""
    return (await session.exec(select(Installation), execution_options={"populate_existing": True})).one()


async def switch(session: WriteSession, mode: Mode, who: str) -> Installation:
    """Switch it; audited, also when only the message changes."""
    here = await current(session)
    if (here.read_only, here.message) != (mode.read_only, mode.message):
        here.read_only, here.message = mode.read_only, mode.message
        await audit.record(session, who, "maintenance", reason=mode.message, read_only=mode.read_only)
        session.ring(ARRIVED)
    return here


async def check(session: ReadSession) -> None:
    """Raises `Unavailable(code="read_only")` while nothing may be changed."""
    here = await current(session)
    if here.read_only:
        why = f": {here.message}" if here.message else ""
        raise Unavailable(
            f"The service is read-only{why}. Ask again when maintenance is over.",
            code="read_only",
            headers={"Retry-After": "60"},
        )


def view(here: Installation) -> dict[str, Any]:
    """The mode as clients see it."""
    return {"read_only": here.read_only, "message": here.message}
