"""What the exit codes mean, and which one an error or a run ends with."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from app.errors import Problem

DONE = 0
FAILED = 1
USAGE = 2
REJECTS = 3
"""Done, but products were left out because of their data or by the engine."""
NOT_ALLOWED = 4
CONFLICT = 5
UNREACHABLE = 6
GUARDED = 7
"""A guard withheld something or refused."""
CHANGES = 10
"""`plan --detailed-exitcode` found changes."""
INTERRUPTED = 130

OVER = frozenset({"ready", "failed", "canceled"})
"""States in which a run stays."""

_BY_STATUS = {
    HTTPStatus.BAD_REQUEST: USAGE,
    HTTPStatus.UNPROCESSABLE_ENTITY: USAGE,
    HTTPStatus.UNAUTHORIZED: NOT_ALLOWED,
    HTTPStatus.FORBIDDEN: NOT_ALLOWED,
    HTTPStatus.CONFLICT: CONFLICT,
    HTTPStatus.SERVICE_UNAVAILABLE: UNREACHABLE,
    HTTPStatus.GATEWAY_TIMEOUT: UNREACHABLE,
}


def of_problem(problem: Problem) -> int:
    """The code for an error; findings of admission are a guard's."""
    if "findings" in problem.extra:
        return GUARDED
    return _BY_STATUS.get(HTTPStatus(problem.status), FAILED)


def of_run(run: Mapping[str, Any]) -> int:
    """The code for a run that is over."""
    verdict = run.get("verdict") or {}
    if run.get("withheld") or verdict.get("passed") is False or (run.get("error") or {}).get("findings"):
        return GUARDED
    if run["state"] != "ready":
        return FAILED
    return REJECTS if (run.get("counts") or {}).get("rejected") else DONE
