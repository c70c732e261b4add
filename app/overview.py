"""One catalogue at a glance: what was declared, what is live, what ran last."""

from typing import Any

from app import backlog, catalogues, generations, runs
from app.db import ReadSession
from app.models import Catalogue


async def of(session: ReadSession, catalogue: Catalogue) -> dict[str, Any]:
    """A catalogue as `GET /catalogues/{name}` shows it; `lag` tells how far events are behind.

    `progress` is the number of its last line: a stream opened with `?after=` that number goes on from here.
    """
    live = await generations.live(session, catalogue.name)
    newest, _ = await runs.listed(session, catalogue=catalogue.name, limit=1)
    return {
        **catalogues.view(catalogue),
        "live": generations.view(live) if live else None,
        "last_run": runs.view(newest[0]) if newest else None,
        "lag": await backlog.of(session, catalogue.name),
        "progress": catalogue.progress_seq,
    }
