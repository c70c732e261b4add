"""What routes take: annotated types that *are* the rule, so that a signature says everything.

`Reading` and `Writing` are one transaction each. `scope="function"`: a writing one commits when the route has returned
and before its answer leaves, so that whoever reads the answer finds what it says. Name `who` first: a caller who may
not do something costs no transaction.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import orjson
from fastapi import Depends, Header, Query, Request
from prometheus_client import CollectorRegistry
from starlette.responses import JSONResponse

from app.auth import Viewer
from app.config import Settings
from app.db import Database, ReadSession, WriteSession
from app.intake import Intake
from app.paging import LONGEST, Page
from app.routers.problems import request_id_of
from app.streams import Places, place

if TYPE_CHECKING:
    from app.connections import Connections
    from app.worker import Worker


@dataclass
class Parts:
    """What one running service is made of; built at start, found at `app.state.parts`."""

    settings: Settings
    db: Database
    connections: "Connections"
    figures: CollectorRegistry
    worker: "Worker | None" = None
    draining: anyio.Event = field(default_factory=anyio.Event)
    places: Places = field(default_factory=Places)
    intake: Intake = field(init=False)

    def __post_init__(self) -> None:
        self.intake = Intake(self.db, self.settings.events_most)


def parts_of(request: Request) -> Parts:
    """The parts of the service that answers *request*."""
    parts: Parts = request.app.state.parts
    return parts


Service = Annotated[Parts, Depends(parts_of)]


async def _reading(parts: Service) -> AsyncIterator[ReadSession]:
    async with parts.db.reading() as session:
        yield session


async def _writing(parts: Service) -> AsyncIterator[WriteSession]:
    async with parts.db.writing() as session:
        yield session


Reading = Annotated[ReadSession, Depends(_reading, scope="function")]
Writing = Annotated[WriteSession, Depends(_writing, scope="function")]

RequestId = Annotated[str | None, Depends(request_id_of)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]


# --- answers ---------------------------------------------------------------------------------------------------------


class Json(JSONResponse):
    """JSON, written fast."""

    def render(self, content: Any) -> bytes:
        """Bytes of *content*; keys that are no strings become strings."""
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)


class Pages:
    """Which page of a list is asked for, and how it is answered."""

    def __init__(
        self,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=LONGEST)] = 50,
        cursor: Annotated[str | None, Query(max_length=1000)] = None,
    ) -> None:
        self.limit, self.cursor, self._url = limit, cursor, request.url

    def answer(self, page: Page[Any], view: Callable[[Any], Any]) -> Json:
        """`{"items", "next_cursor"}`, and a `Link` to the next page where there is one."""
        rows, cursor = page
        return self.of(map(view, rows), cursor)

    def of(self, items: Iterable[Any], cursor: str | None) -> Json:
        """The same of items that are views already."""
        body = {"items": list(items), "next_cursor": cursor}
        return Json(body, headers=self._link(cursor) if cursor else None)

    def _link(self, cursor: str) -> dict[str, str]:
        following = self._url.include_query_params(cursor=cursor)
        return {"Link": f'<{following.path}?{following.query}>; rel="next"'}


Paging = Annotated[Pages, Depends(Pages)]


# --- streams ---------------------------------------------------------------------------------------------------------


def _place(
    last_event_id: Annotated[str | None, Header()] = None, after: Annotated[int | None, Query(ge=0, lt=2**63)] = None
) -> int:
    return place(last_event_id, after)


After = Annotated[int, Depends(_place)]
"""The line that the reader of a stream saw last."""


async def _stream_place(who: Viewer, parts: Service) -> AsyncIterator[None]:
    async with parts.places.taken(who.name):
        yield


HasPlace = Depends(_stream_place, scope="request")
"""One of the caller's places, until the stream has ended."""
