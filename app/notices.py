"""Notices: what senders say, one event each, and what is refused of it before anything is written."""

import time
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

MOST = 1000
"""Events of one request."""

ARRIVED = "events"
"""The bell's topic of those who apply events in this process."""

LONGEST_ID = 512
"""Bytes of a product's id: engines take no longer one."""

FARTHEST = 30 * 24 * 3600
"""Seconds that `not_before` may lie ahead."""


def _plain(value: str) -> str:
    if "\x00" in value:
        raise ValueError("holds a NUL: remove it")
    if len(value.encode()) > LONGEST_ID:
        raise ValueError(f"is longer than {LONGEST_ID} bytes")
    return value


def _near(value: AwareDatetime) -> AwareDatetime:
    if value.timestamp() - time.time() > FARTHEST:
        raise ValueError(f"lies more than {FARTHEST // 86400} days ahead")
    return value


Plain = Annotated[str, AfterValidator(_plain)]


class Notice(BaseModel):
    """One event as a sender words it; `not_before`: its change cannot be read before that."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    product_id: Plain = Field(min_length=1, max_length=LONGEST_ID)
    action: Literal["upsert", "delete"] = "upsert"
    priority: bool = False
    id: Plain | None = Field(None, min_length=1, max_length=255)
    not_before: Annotated[AwareDatetime, AfterValidator(_near)] | None = None


class Notices(BaseModel):
    """What `POST /catalogues/{name}/events` and a webhook take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: list[Notice] = Field(min_length=1, max_length=MOST)
