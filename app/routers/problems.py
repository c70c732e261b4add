"""Every 4xx and 5xx becomes `application/problem+json` (RFC 9457) here: ours, the framework's, the unexpected.

A problem document never holds the input, a stack, SQL or a secret. What was not expected is logged with its stack and
answered with the request id only.
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.errors import Invalid, Problem

LONGEST_WHERE = 200
"""Characters of a finding's `where`: keys of a body are the caller's own and may be of any length."""

NAMES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 408: "timeout", 413: "too_large"}
"""Codes for the framework's own refusals."""

HINTS = {
    404: "There is nothing at this address; the routes are listed at /api/v1/openapi.json.",
    405: "This address does not answer to this method; the `Allow` header names those it does.",
}

_TEXT = {"type": "string"}
SHOWN: dict[str, Any] = {
    "description": "What is wrong and what to do (RFC 9457).",
    "content": {
        "application/problem+json": {
            "schema": {
                "title": "Problem",
                "type": "object",
                "required": ["type", "title", "status", "detail", "code", "request_id"],
                "properties": {
                    **dict.fromkeys(("type", "title", "detail", "code", "request_id"), _TEXT),
                    "status": {"type": "integer"},
                    "errors": {
                        "type": "array",
                        "items": {"type": "object", "properties": {"where": _TEXT, "why": _TEXT}},
                    },
                },
            }
        }
    },
}
"""How a problem document stands in the description of the API."""

log = structlog.get_logger("reshelve.http")


def document(status: int, title: str, detail: str, code: str, request_id: str | None) -> dict[str, Any]:
    """The members that every problem document has."""
    return {
        "type": f"urn:reshelve:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }


def rendered(body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """A problem document as a response. Plain `json`, because it writes even what is no valid Unicode."""
    text = json.dumps(body, default=str)
    return Response(text, int(body["status"]), dict(headers or {}), media_type="application/problem+json")


def answer(problem: Problem, request_id: str | None) -> Response:
    """What the caller gets for one of our own errors."""
    body = document(problem.status, problem.title, problem.detail, problem.code, request_id)
    extra = {key: value for key, value in problem.extra.items() if key not in body}
    errors = {"errors": problem.errors} if problem.errors else {}
    return rendered({**body, **extra, **errors}, problem.headers)


def unexpected(request_id: str | None) -> Response:
    """What the caller gets for a bug: nothing of it but the id to look for."""
    return answer(Problem(), request_id)


def findings(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Validation errors as `{"where", "why"}`, without the input."""
    return [{"where": _where(error["loc"]), "why": _why(error)} for error in errors]


def _where(location: Sequence[Any]) -> str:
    return ".".join(str(part) for part in location)[:LONGEST_WHERE] or "body"


def _why(error: Mapping[str, Any]) -> str:
    """Pydantic's own sentence, but for the kinds that repeat the input."""
    context = error.get("ctx", {})
    if error["type"] == "union_tag_invalid":
        return f"{context.get('discriminator', 'tag')} must be one of {context.get('expected_tags', 'the known ones')}"
    return str(error["msg"]).removeprefix("Value error, ")


def request_id_of(request: Request) -> str | None:
    """The id that the edge gave this request."""
    return getattr(request.state, "request_id", None)


async def on_problem(request: Request, error: Exception) -> Response:
    """Ours."""
    assert isinstance(error, Problem)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("problem", code=error.code, detail=error.detail, cause=repr(error.__cause__)[:500])
    return answer(error, request_id_of(request))


async def on_invalid(request: Request, error: Exception) -> Response:
    """Input that does not fit its declared shape."""
    assert isinstance(error, RequestValidationError)
    found = findings(error.errors())
    detail = f"The request has {len(found)} finding(s); see `errors` for where and why."
    return answer(Invalid(detail, errors=found), request_id_of(request))


async def on_refusal(request: Request, error: Exception) -> Response:
    """What routing refuses: no such address, wrong method."""
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    detail = HINTS.get(error.status_code, error.detail)
    code = NAMES.get(error.status_code, title.lower().replace(" ", "_"))
    body = document(error.status_code, title, detail, code, request_id_of(request))
    return rendered(body, error.headers)


def install(app: FastAPI) -> None:
    """Handle everything that has a handler; the rest ends at the edge."""
    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_refusal)
