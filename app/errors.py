"""Every error that a person may see: it knows its HTTP status, its code, and whether another try is safe.

One handler turns them into `application/problem+json` (RFC 9457); a run that ends by one keeps its `code` and
`detail`. The retry loop asks one question only: `error.transient`. The detail is written for the person on call: it
says what is wrong and what to do, and never holds a stack, SQL, the input or a secret.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar


class Problem(Exception):
    """Something went wrong inside the service; its log holds the request id."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    transient: ClassVar[bool] = False
    code: str = "internal"

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        **extra: object,
    ) -> None:
        """*errors* are findings `{"where", "why"}`; *extra* are further members of the problem document."""
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.code = code or type(self).code
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extra = extra
        super().__init__(self.detail)


class Invalid(Problem):
    """The request cannot be understood; `errors` says where and why."""

    status, title, code = 422, "Invalid input", "invalid"


class NotSupportedYet(Invalid):
    """This part of the contract is not built yet."""

    title, code = "Not supported yet", "not_supported_yet"


class Refused(Invalid):
    """The run was not started because it could not succeed; `findings` lists every reason."""

    title, code = "Refused before anything was built", "refused"


class NotFound(Problem):
    """There is no such thing."""

    status, title, code = 404, "Not found", "not_found"


class Conflict(Problem):
    """This does not fit the present state."""

    status, title, code = 409, "Conflict", "conflict"


class Unauthorized(Problem):
    """A token is needed: send `Authorization: Bearer <token>`."""

    status, title, code = 401, "Not authenticated", "unauthorized"


class Forbidden(Problem):
    """This caller may not do that."""

    status, title, code = 403, "Not allowed", "forbidden"


class TooMuch(Problem):
    """A limit is reached; try again later."""

    status, title, code = 429, "Limit reached", "too_many"


class TooLarge(Problem):
    """The body is larger than this service accepts."""

    status, title, code = 413, "Body too large", "too_large"


class Malformed(Problem):
    """The request cannot be read."""

    status, title, code = 400, "Bad request", "bad_request"


class WrongMedia(Problem):
    """A body must be JSON: send `Content-Type: application/json`."""

    status, title, code = 415, "Unsupported media type", "unsupported_media_type"


class TooSlow(Problem):
    """The body did not arrive in time."""

    status, title, code = 408, "Request timeout", "timeout"


class Unavailable(Problem):
    """Something that this answer needs is out of reach for the moment."""

    status, title, code = 503, "Unavailable for the moment", "unavailable"
    transient = True


# --- engines ---------------------------------------------------------------------------------------------------------


class EngineError(Problem):
    """The search engine refused a request for good."""

    status, title, code = 502, "Engine refused", "engine_refused"


class EngineUnavailable(EngineError):
    """The search engine could not be reached, timed out or is overloaded; another try is safe."""

    status, title, code = 503, "Engine unavailable", "engine_unavailable"
    transient = True


class EngineBusy(EngineUnavailable):
    """The engine answered 429: it is alive and wants less; another try is safe and costs no attempt."""

    code = "engine_busy"


class TooLargeForEngine(EngineError):
    """One request was larger than the engine will ever take; halve it."""

    code = "engine_request_too_large"


class Blocked(EngineUnavailable):
    """The index refuses writes (a write block); lifted by whoever meets it while no run clones."""

    code = "write_blocked"


class DiskFull(EngineError):
    """The engine has reached its flood stage: free disk space on its data nodes."""

    code = "engine_disk_full"


class IndexMissing(EngineError):
    """The index or alias is not there."""

    status, title, code = 404, "Index missing", "index_missing"


class SwitchSpent(EngineError):
    """The numbered move was refused: its number is spent or the alias is not where it should be."""

    status, title, code = 409, "Switch refused", "switch_spent"


# --- source ----------------------------------------------------------------------------------------------------------


class SourceGone(Problem):
    """The source index was deleted or re-created while it was being read."""

    status, title, code = 409, "Source changed under the run", "source_gone"


class SourceUnresolved(Problem):
    """The source does not resolve to exactly one index."""

    status, title, code = 422, "Source unresolved", "source_unresolved"


# --- embedders -------------------------------------------------------------------------------------------------------


class EmbedderError(Problem):
    """The embedder refused for good."""

    status, title, code = 502, "Embedder refused", "embedder_refused"


class EmbedderUnavailable(EmbedderError):
    """The embedder did not answer in time or is overloaded; another try is safe."""

    status, title, code = 503, "Embedder unavailable", "embedder_unavailable"
    transient = True


class EmbedderBusy(EmbedderUnavailable):
    """The embedder answered 429: it is alive and wants less; another try is safe and costs no attempt."""

    code = "embedder_busy"


# --- runs ------------------------------------------------------------------------------------------------------------


class LeaseLost(Problem):
    """Another worker took this run over; what this one still writes is refused."""

    status, title, code = 409, "Lease lost", "lease_lost"


class RunFailed(Problem):
    """The run ended for the reason that its code and detail say."""

    status, title, code = 409, "Run failed", "failed"


class RunCanceled(Problem):
    """The run was canceled on request."""

    status, title, code = 409, "Run canceled", "canceled"
