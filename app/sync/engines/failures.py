"""What an engine's refusal means: its error *type* decides, its status only where the type says nothing.

A 429 has three meanings (a full queue, a request larger than will ever be taken, the disk's flood stage) and a 404
has four, so branching on the status alone is wrong. Reasons are passed on shortened; they may quote a value of the
document that was refused, never a credential.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import (
    Blocked,
    Conflict,
    DiskFull,
    EngineBusy,
    EngineError,
    EngineUnavailable,
    IndexMissing,
    Problem,
    SourceGone,
    SwitchSpent,
    TooLargeForEngine,
)

CONTEXT_MISSING = "search_context_missing_exception"
INDEX_MISSING = "index_not_found_exception"
ALIASES_MISSING = "aliases_not_found_exception"
VERSION_CONFLICT = "version_conflict_engine_exception"
CLUSTER_BLOCK = "cluster_block_exception"

TYPES: Mapping[str, type[Problem]] = {
    INDEX_MISSING: IndexMissing,
    ALIASES_MISSING: SwitchSpent,
    CONTEXT_MISSING: SourceGone,
    "resource_already_exists_exception": Conflict,
    "es_rejected_execution_exception": EngineBusy,
    "rejected_execution_exception": EngineBusy,
    "circuit_breaking_exception": EngineBusy,
    "no_shard_available_action_exception": EngineUnavailable,
    "unavailable_shards_exception": EngineUnavailable,
    "node_disconnected_exception": EngineUnavailable,
    "node_not_connected_exception": EngineUnavailable,
    "process_cluster_event_timeout_exception": EngineUnavailable,
}

STATUSES: Mapping[int, type[Problem]] = {
    408: EngineUnavailable,
    413: TooLargeForEngine,
    429: EngineBusy,
    502: EngineUnavailable,
    503: EngineUnavailable,
    504: EngineUnavailable,
}

CODES: Mapping[type[Problem], str] = {Conflict: "index_exists"}

FLOOD = re.compile(r"flood[- ]stage|TOO_MANY_REQUESTS/12|cluster create-index blocked", re.IGNORECASE)
OPERATION = re.compile(r"(?:coordinating|primary)_operation_bytes=(\d+), max_\w+=(\d+)")
"""How both engines word indexing pressure; a shard's own limit (OpenSearch) moves and is no reason to give up."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A refusal as the engine words it; `roots` are the types of its root causes."""

    status: int
    type: str
    reason: str
    roots: tuple[str, ...] = ()

    @property
    def types(self) -> tuple[str, ...]:
        """Its own type and those of its causes."""
        return (self.type, *self.roots)

    def __str__(self) -> str:
        return f"{self.reason[:400]} [{self.type or f'status {self.status}'}]"


def failure(status: int, body: Any) -> Failure:
    """Read the refusal in an answer's body, in any of the shapes engines and the proxies before them give it."""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        told = (*(error.get("root_cause") or ()), error.get("caused_by"))
        causes = [cause for cause in told if isinstance(cause, dict)]
        types = tuple(str(cause.get("type", "")) for cause in causes)
        return Failure(status, str(error.get("type", "")), _whole(error, causes), types)
    return Failure(status, "", str(error or body)[:400])


def _whole(error: Mapping[str, Any], causes: Sequence[Mapping[str, Any]]) -> str:
    """The reason with those of its causes: engines wrap the useful sentence in useless ones."""
    reason = str(error.get("reason") or "")
    for cause in causes:
        inner = str(cause.get("reason") or "")
        if inner and inner not in reason:
            reason = f"{reason}: {inner}" if reason else inner
    return reason


def problem(failed: Failure, name: str, what: str) -> Problem:
    """The problem that *failed* stands for; *name* is the engine, *what* it was asked to do."""
    kind = meaning(failed)
    extra: dict[str, Any] = {"engine_status": failed.status, "engine_error": failed.type}
    if failed.status in (401, 403) and kind is EngineError:
        return EngineError(_refusal(failed, name, what), code=_access(failed), **extra)
    if kind is DiskFull:
        detail = f"{name} would not {what}: its disks are at the flood stage. Free space on its data nodes. ({failed})"
        return DiskFull(detail, **extra)
    return kind(f"{name} would not {what}: {failed}.", code=CODES.get(kind), **extra)


def meaning(failed: Failure) -> type[Problem]:
    """The class of problem; `EngineError` when nothing better is known."""
    if failed.type == CLUSTER_BLOCK or CLUSTER_BLOCK in failed.roots:
        return _block(failed)
    if CONTEXT_MISSING in failed.types:
        return SourceGone
    kind = next((TYPES[one] for one in failed.types if one in TYPES), None) or STATUSES.get(failed.status, EngineError)
    return TooLargeForEngine if kind is EngineBusy and never_fits(failed.reason) else kind


def _block(failed: Failure) -> type[Problem]:
    if FLOOD.search(failed.reason):
        return DiskFull
    return EngineUnavailable if failed.status == 503 else Blocked


def never_fits(reason: str) -> bool:
    """Whether a rejection says that this operation alone is larger than the engine's limit."""
    found = OPERATION.search(reason)
    return found is not None and int(found[1]) > int(found[2])


def _access(failed: Failure) -> str:
    return "engine_unauthorized" if failed.status == 401 else "engine_forbidden"


def _refusal(failed: Failure, name: str, what: str) -> str:
    if failed.status == 401:
        hint = "set USERNAME and PASSWORD, or API_KEY, of this engine in the settings"
        return f"{name} does not accept the credentials it was given, or was given none: {hint}. ({failed})"
    return f"{name} does not let this user {what}; grant what it misses: {failed}."
