"""Who calls, and what they may do.

Two modes. `loopback`: nobody needs a token; safety rests on the address listened on, on the `Host` header (DNS
rebinding) and on refusing requests that another site's page makes a browser send. `token`: `Authorization: Bearer`,
or the cookie that `POST /session` makes of a token, because a browser's EventSource sends no header; the cookie counts
only for requests that come from our own page.

A route names what it asks for in its signature: `who: Viewer`, `who: Editor` or `who: Admin`. Today every token is an
admin's; roles will change `Principal.role` and no route.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from app.config import LOOPBACK, AuthSettings, Settings
from app.errors import Forbidden, Invalid, NotSupportedYet, Unauthorized

Role = Literal["viewer", "editor", "admin"]
RANK: Mapping[Role, int] = {"viewer": 0, "editor": 1, "admin": 2}

COOKIE = "reshelve_session"
COOKIE_SECONDS = 12 * 3600
"""A working day; then the page asks for the token again."""

READING = frozenset({"GET", "HEAD", "OPTIONS"})

OPEN = frozenset({"/healthz", "/readyz", "/api/version"})
"""Need no token, and are open to other sites' requests too: they tell nothing worth keeping. So is the page itself."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. `name` stands in runs, logs and the audit log."""

    name: str
    role: Role = "admin"


LOCAL = Principal("local")


def check_listening(settings: Settings) -> None:
    """Refuse to listen where anybody could call without a token. Raises `Problem` with what to do."""
    if settings.auth.mode == "jwt":
        raise NotSupportedYet("RESHELVE_AUTH__MODE=jwt is not built yet: use token or loopback.")
    if settings.auth.mode == "token" and not settings.auth.tokens:
        raise Invalid('RESHELVE_AUTH__MODE=token needs RESHELVE_AUTH__TOKENS: {"name": "sha256 of the token"}.')
    if settings.auth.mode == "loopback" and not settings.is_loopback:
        raise Invalid(
            f"RESHELVE_HOST={settings.host} is not this machine's loopback, and no token protects it: "
            "listen on 127.0.0.1, or set RESHELVE_AUTH__MODE=token and RESHELVE_AUTH__TOKENS."
        )


def check_origin(scope: Scope, mode: str, is_open: bool) -> None:
    """What can be refused before anything is read: foreign hosts, foreign clients, other sites. Raises `Forbidden`."""
    if mode != "loopback":
        return
    headers = Headers(scope=scope)
    hosts = headers.getlist("host")
    if not hosts or not all(is_local_host(host) for host in hosts):
        raise Forbidden("Without tokens only localhost, 127.0.0.1 and [::1] are answered to.", code="foreign_host")
    if not is_local_client(scope):
        raise Forbidden("Without tokens only callers on this machine are answered to.", code="foreign_client")
    if not is_open and is_cross_site(headers):
        raise Forbidden("Requests from other sites' pages are not answered to.", code="cross_site")


def is_local_host(host: str) -> bool:
    """Whether a `Host` header names this machine's loopback, with any port."""
    name, bracket, rest = host.partition("]") if host.startswith("[") else (*host.partition(":")[:1], "", "")
    port = rest.removeprefix(":") if bracket else host.partition(":")[2]
    return name.lower().lstrip("[") in LOOPBACK and (port == "" or port.isdecimal()) and host != ""


def is_local_client(scope: Scope) -> bool:
    """Whether the peer is on this machine (a Unix socket has no address)."""
    client = scope.get("client")
    try:
        return client is None or ip_address(client[0]).is_loopback
    except ValueError:
        return False


def is_cross_site(headers: Headers) -> bool:
    """Whether a browser sent this for a page that is not ours. Programs send neither header."""
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def holder_of(token: str, auth: AuthSettings) -> str | None:
    """Whose token this is. Compares with every digest in constant time, so that time tells nothing."""
    digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
    found = [name for name, known in auth.tokens.items() if hmac.compare_digest(digest, known)]
    return found[0] if found else None


def bearer(headers: Headers) -> str | None:
    """The token of `Authorization: Bearer`, if that is there."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def check_token(token: str | None, auth: AuthSettings) -> Principal:
    """The principal of a token. Raises `Unauthorized`."""
    name = holder_of(token, auth) if token else None
    if name is None:
        why = "This token is not known." if token else ""
        raise Unauthorized(why, headers={"WWW-Authenticate": "Bearer"})
    return Principal(name)


def principal_of(request: Request) -> Principal:
    """Who sent this request. Raises `Unauthorized`, or `Forbidden` for a cookie that another site's page used."""
    auth: AuthSettings = request.app.state.settings.auth
    if auth.mode == "loopback":
        return LOCAL
    token, cookie = bearer(request.headers), request.cookies.get(COOKIE)
    if token is None and cookie is not None:
        _check_own_page(request)
    return check_token(token or cookie, auth)


def _check_own_page(request: Request) -> None:
    """A cookie travels by itself, so it counts only where the browser says that our own page sent it."""
    known = "sec-fetch-site" in request.headers or "origin" in request.headers
    if is_cross_site(request.headers) or (not known and request.method not in READING):
        raise Forbidden("A session cookie counts only for requests of our own page.", code="cross_site")


def sign_in(request: Request, token: str | None) -> Response:
    """204 with the cookie of *token*, or of the one in the header. Raises `Unauthorized`, `Forbidden`."""
    auth: AuthSettings = request.app.state.settings.auth
    answer = Response(status_code=204)
    if is_cross_site(request.headers):
        raise Forbidden("Requests from other sites' pages are not answered to.", code="cross_site")
    if auth.mode == "token":
        known = token or bearer(request.headers)
        check_token(known, auth)
        answer.set_cookie(
            COOKIE, known or "", COOKIE_SECONDS, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
    return answer


def sign_out() -> Response:
    """204 that makes a browser forget the cookie."""
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


class Allowed:
    """The dependency behind `Viewer`, `Editor` and `Admin`: the caller, when their role is enough."""

    def __init__(self, needed: Role) -> None:
        self.needed = needed

    async def __call__(self, request: Request) -> Principal:
        """Raises `Unauthorized` or `Forbidden`."""
        who = principal_of(request)
        if RANK[who.role] < RANK[self.needed]:
            raise Forbidden(f"This needs the role {self.needed}.", code="role")
        request.state.who = who.name
        return who


Viewer = Annotated[Principal, Depends(Allowed("viewer"))]
Editor = Annotated[Principal, Depends(Allowed("editor"))]
Admin = Annotated[Principal, Depends(Allowed("admin"))]
