"""JSON logs on stderr, one line an event: ours and those of every library, with `request_id` and `run_id`.

Whoever begins something binds its id once (`bound(run_id=...)`); everything logged below it carries the id. Nothing is
configured by importing: the process that starts calls `configure` first. Data goes to stdout, logs never do.
"""

import logging
import sys
from contextlib import AbstractContextManager
from typing import Any, TextIO

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.types import Processor

CHATTY = (
    *("httpx", "httpcore", "httpx2", "openai", "elastic_transport", "elasticsearch", "opensearch"),
    *("aiosqlite", "alembic", "asyncio", "sse_starlette"),
)
"""Libraries whose everyday talk is noise, or holds addresses and inputs: warnings and worse only."""

NODE_POOL = "elastic_transport.node_pool"
"""Warns of every request that we stop waiting for on purpose, like a merge."""


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Log as this module says, from now on, everything of *level* and above."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_formatter())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.getLogger(NODE_POOL).setLevel(logging.ERROR)
    structlog.configure(
        processors=[*_common(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
    )


def bound(**ids: str | None) -> AbstractContextManager[None]:
    """Within the block, every line of this task and of those it starts carries *ids* (None: not that one)."""
    return bound_contextvars(**{key: value for key, value in ids.items() if value is not None})


def _common() -> list[Processor]:
    return [
        merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
    ]


def _formatter() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_common(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_colour, _ours_first],
    )


def _without_colour(_logger: Any, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Uvicorn repeats its message with colours."""
    event.pop("color_message", None)
    return event


_render = structlog.processors.JSONRenderer()


def _ours_first(logger: Any, method: str, event: structlog.types.EventDict) -> str | bytes:
    """JSON in plain ASCII, so that no text of a caller can break a line; time, level and event come first."""
    first = {key: event.pop(key) for key in ("at", "level", "event") if key in event}
    return _render(logger, method, {**first, **event})
