"""An engine whose passing troubles are waited out: the layer that tries again, for everything but bulk requests.

A 429 was refused before anything happened, so every call may go again. After a time-out or a lost connection nobody
knows whether the request was done, so only calls that may be done twice go again; the others leave as they came, and
whoever called knows what to look at. Bulk requests have their own loop, item by item (`app.sync.load`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from app.errors import EngineBusy, Problem
from app.sync.engine_port import Engine, VectorStore
from app.sync.limits import Limits, is_transient, retrying

REPEATABLE = frozenset(
    {
        *("about", "resolve", "properties", "refresh", "pit_count", "page", "pit_get", "get", "search_stats"),
        *("block", "unblock", "settle", "green", "nearest", "lexical", "vectors", "listed", "drop", "close_pit"),
        *("analyses", "graph", "remark", "holding", "counted", "room", "accepts", "denied", "reserve"),
    }
)
"""Calls that change nothing, or the same thing again."""

OF_A_STORE = frozenset({"known", "keep", "size", "used", "aged", "forget"})
"""Calls of a vector store: equal keys have equal vectors."""

ONCE = frozenset({"create", "clone", "open_pit", "swap_alias", "merge", "move", "burn"})
"""Calls that go again only when they were refused unseen."""


def patient_store(store: VectorStore, limits: Limits, on_retry: Callable[[Problem], None]) -> VectorStore:
    """*store*, each of whose calls may be done twice and is."""
    return cast(VectorStore, _Patient(store, limits, on_retry))


def patient(engine: Engine, limits: Limits, on_retry: Callable[[Problem], None]) -> Engine:
    """*engine*, each of whose calls lasts at most `stall_deadline`; *on_retry* is told what each new try follows."""
    return cast(Engine, _Patient(engine, limits, on_retry))


class _Patient:
    def __init__(self, inner: Any, limits: Limits, on_retry: Callable[[Problem], None]) -> None:
        self._inner, self._limits, self._on_retry = inner, limits, on_retry

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in REPEATABLE | OF_A_STORE | ONCE:
            return method
        return partial(self._call, method, was_refused if name in ONCE else is_transient)

    async def _call(self, method: Callable[..., Any], again: Callable[[Problem], bool], *args: Any) -> Any:
        return await retrying(
            partial(method, *args),
            deadline=self._limits.stall_deadline,
            on_retry=self._on_retry,
            budget=self._limits.bulk_budget,
            patience=self._limits.patience,
            again=again,
        )


def was_refused(problem: Problem) -> bool:
    """Whether the engine turned the request away unseen."""
    return isinstance(problem, EngineBusy)
