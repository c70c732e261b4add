"""Who is let in: by address and origin without tokens, by token or cookie with them."""

import pytest

from app.auth import COOKIE, check_listening
from app.config import AuthSettings, Settings
from app.errors import Problem
from tests.api.conftest import TOKEN, TOKENS, Service, is_problem

pytestmark = pytest.mark.anyio

RUNS = "/api/v1/runs"
OPEN = ("/healthz", "/readyz", "/api/version", "/")
BEARER = {"Authorization": f"Bearer {TOKEN}"}
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


# --- without tokens --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:80"])
async def test_without_tokens_names_of_this_machine_are_answered_to(service: Service, host: str) -> None:
    assert (await service.client.get(RUNS, headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000", "localhost:x", "", "[::2]"]
)
async def test_without_tokens_foreign_hosts_are_refused_everywhere(service: Service, host: str) -> None:
    for path in (RUNS, *OPEN):
        is_problem(await service.client.get(path, headers={"Host": host}), 403, "foreign_host")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
    ],
)
async def test_without_tokens_other_sites_may_ask_for_open_paths_only(
    service: Service, headers: dict[str, str]
) -> None:
    is_problem(await service.client.get(RUNS, headers=headers), 403, "cross_site")
    is_problem(await service.client.post("/sync", headers=headers), 403, "cross_site")
    is_problem(await service.client.post("/api/v1/session", headers=headers), 403, "cross_site")
    assert (await service.client.get("/api/version", headers=headers)).status_code == 200


async def test_the_own_page_is_let_in(service: Service) -> None:
    own = {"Origin": "http://localhost:8000", **OWN_PAGE}
    assert (await service.client.get(RUNS, headers=own)).status_code == 200


# --- with tokens -----------------------------------------------------------------------------------------------------


async def test_with_tokens_everything_but_open_paths_needs_one(guarded: Service) -> None:
    for method, path in (
        ("GET", RUNS),
        ("POST", "/sync"),
        ("POST", "/api/v1/sync"),
        ("GET", "/metrics"),
        ("GET", "/api/v1/openapi.json"),
        ("GET", "/api/v1/runs/x/stream"),
        ("GET", "/api/v1/catalogues/x/stream"),
        ("PUT", "/api/v1/maintenance"),
        ("GET", "/api/v1/audit"),
        ("DELETE", "/api/v1/catalogues/x"),
    ):
        refused = await guarded.client.request(method, path)
        is_problem(refused, 401, "unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
    for path in OPEN:
        assert (await guarded.client.get(path)).status_code != 401


@pytest.mark.parametrize("value", ["Bearer nope", "Bearer ", "Basic " + TOKEN, TOKEN, "Bearer \xff\xfe"])
async def test_a_wrong_token_is_401(guarded: Service, value: str) -> None:
    answer = await guarded.client.get(RUNS, headers=[(b"authorization", value.encode("latin-1"))])
    is_problem(answer, 401, "unauthorized")
    assert "nope" not in answer.text


async def test_a_token_is_let_in_from_anywhere_under_any_host(guarded: Service) -> None:
    answer = await guarded.client.get(RUNS, headers={**BEARER, "Host": "reshelve.shop.example"})
    assert answer.status_code == 200


async def test_a_token_becomes_a_cookie_that_counts_for_the_own_page_only(guarded: Service) -> None:
    begun = await guarded.client.post("/api/v1/session", json={"token": TOKEN})
    assert begun.status_code == 204
    cookie = begun.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert (await guarded.client.get(RUNS, headers=OWN_PAGE)).status_code == 200
    assert (await guarded.client.get(RUNS)).status_code == 200
    is_problem(await guarded.client.post("/sync"), 403, "cross_site")
    is_problem(await guarded.client.get(RUNS, headers={"Sec-Fetch-Site": "cross-site"}), 403, "cross_site")
    is_problem(await guarded.client.get(RUNS, headers={"Origin": "https://evil.example"}), 403, "cross_site")
    is_problem(await guarded.client.post("/sync", headers=OWN_PAGE), 422, "invalid")
    ended = await guarded.client.delete("/api/v1/session")
    assert ended.status_code == 204
    is_problem(await guarded.client.get(RUNS, headers=OWN_PAGE), 401)


async def test_the_cookie_is_secure_behind_tls(guarded: Service) -> None:
    begun = await guarded.client.post("https://localhost/api/v1/session", headers=BEARER)
    assert begun.status_code == 204
    assert "secure" in begun.headers["set-cookie"].lower()


async def test_a_session_needs_a_known_token(guarded: Service) -> None:
    is_problem(await guarded.client.post("/api/v1/session"), 401)
    is_problem(await guarded.client.post("/api/v1/session", json={"token": "nope"}), 401)
    is_problem(await guarded.client.post("/api/v1/session", json={"token": "\u2028"}), 422)
    is_problem(await guarded.client.get(RUNS, headers={"Cookie": f"{COOKIE}=nope"}), 401)


async def test_without_tokens_a_session_is_no_news(service: Service) -> None:
    begun = await service.client.post("/api/v1/session", json={"token": "anything"})
    assert begun.status_code == 204
    assert "set-cookie" not in begun.headers


# --- what may be listened on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        Settings(host="0.0.0.0"),
        Settings(host="192.168.1.5"),
        Settings(host="0.0.0.0", auth=AuthSettings(mode="token")),
        Settings(auth=AuthSettings(mode="jwt")),
    ],
)
def test_what_nobody_protects_is_not_listened_on(settings: Settings) -> None:
    with pytest.raises(Problem, match="RESHELVE_AUTH__"):
        check_listening(settings)


def test_tokens_protect_any_address() -> None:
    check_listening(Settings(host="0.0.0.0", auth=AuthSettings(mode="token", tokens=TOKENS)))
    check_listening(Settings(host="127.0.0.1"))
