"""What holds for every request and every answer."""

import json
import re

import anyio
import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from app.edge import BODY_BYTES, HEADERS, Gate
from tests.api.conftest import SHOP, Service, is_problem

pytestmark = pytest.mark.anyio

PUT = "/api/v1/catalogues/shop"
JSON = {"content-type": "application/json"}


async def test_every_answer_has_a_request_id_and_the_security_headers(service: Service) -> None:
    for path in ("/healthz", "/nowhere", "/api/v1/runs", "/"):
        answer = await service.client.get(path)
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
        for name in HEADERS:
            assert name in answer.headers
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


async def test_a_sane_request_id_is_kept_and_another_is_replaced(service: Service) -> None:
    kept = await service.client.get("/healthz", headers={"X-Request-ID": "cron-2024:17"})
    assert kept.headers["x-request-id"] == "cron-2024:17"
    for bad in ("a b", "x" * 200, '"}', "<script>", ""):
        answer = await service.client.get("/healthz", headers={"X-Request-ID": bad})
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize(
    "body",
    [
        b"NaN",
        b'{"source": NaN}',
        b'{"recipe": {"max_chars": 1e999}}',
        b'{"tenant": "\\ud800"}',
        b"{",
        b"\xff\xfe",
        b"[" * 50_000,
        b"[" * 900 + b"]" * 900,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b"{} trailing",
    ],
    ids="nan nan-inside infinite surrogate broken no-utf8 deep-open deep deep-objects trailing".split(),  # noqa: SIM905 - names
)
async def test_hostile_json_is_refused_with_400_and_never_500(service: Service, body: bytes) -> None:
    for method, path in (("PUT", PUT), ("POST", "/sync"), ("POST", "/api/v1/catalogues/shop/search"), ("POST", "/x")):
        answer = await service.client.request(method, path, content=body, headers=JSON)
        problem = is_problem(answer, 400, "bad_json")
        assert "trailing" not in problem["detail"]


@pytest.mark.parametrize(
    "body",
    [b"null", b"[]", b"1", b'"x"', b"true", b'{"a": 123456789012345678901234567890}', b'{"catalogue": "\\u0000"}'],
)
async def test_json_of_another_shape_is_422_with_where_and_why(shop: Service, body: bytes) -> None:
    for path in ("/api/v1/catalogues/shop", "/api/v1/catalogues/other"):
        answer = await shop.client.put(path, content=body, headers=JSON)
        problem = is_problem(answer, 422, "invalid")
        assert all(set(found) == {"where", "why"} for found in problem["errors"])


async def test_a_value_that_the_caller_sent_is_never_repeated(service: Service) -> None:
    secret = "sk-very-secret"
    embedder = {"provider": secret, "model": [secret], "api_key": secret}
    body = {**SHOP, "recipe": {"embedder": embedder}, "source": {"kind": secret}}
    answer = await service.client.put(PUT, json=body)
    is_problem(answer, 422)
    assert secret not in answer.text


async def test_a_body_that_is_no_json_is_415(service: Service) -> None:
    for headers in ({"content-type": "application/x-www-form-urlencoded"}, {"content-type": "text/plain"}, {}):
        answer = await service.client.request("POST", "/sync", content=b'{"catalogue": "shop"}', headers=headers)
        is_problem(answer, 415, "unsupported_media_type")


async def test_a_body_over_the_limit_is_413_whether_its_size_is_declared_or_not(service: Service) -> None:
    async def chunks():  # type: ignore[no-untyped-def]
        for _ in range(BODY_BYTES // 50_000 + 2):
            yield b" " * 50_000

    declared = await service.client.put(PUT, content=b" " * (BODY_BYTES + 1), headers=JSON)
    is_problem(declared, 413, "too_large")
    chunked = await service.client.put(PUT, content=chunks(), headers=JSON)
    is_problem(chunked, 413, "too_large")
    exact = json.dumps({**SHOP, "tenant": "x" * BODY_BYTES})[:BODY_BYTES].encode()
    is_problem(await service.client.put(PUT, content=exact, headers=JSON), 400, "bad_json")


async def test_a_body_that_does_not_come_is_408_and_a_caller_who_hung_up_gets_nothing() -> None:
    """Straight at the gate: a client library would send the whole body."""

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    async def nothing() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def hung_up() -> Message:
        return {"type": "http.disconnect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    gate = Gate(routed, "token", (), seconds=0.01)
    scope = {"type": "http", "method": "POST", "path": "/sync", "headers": [], "state": {"request_id": "x"}}
    await gate(scope, hung_up, send)
    assert sent == []
    await gate(scope, nothing, send)
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["code"] == "timeout"


async def test_a_content_length_that_is_no_number_is_400(service: Service) -> None:
    request = httpx.Request("PUT", f"http://localhost{PUT}", headers={**JSON, "content-length": "-5"}, content=b"{}")
    request.headers["content-length"] = "-5"
    is_problem(await service.client.send(request), 400, "bad_request")


async def test_an_unknown_address_is_404_and_a_wrong_method_405(service: Service) -> None:
    is_problem(await service.client.get("/api/v1/nowhere"), 404, "not_found")
    is_problem(await service.client.get("/api/v1/runs/"), 404, "not_found")
    is_problem(await service.client.post("/nowhere"), 404, "not_found")
    wrong = await service.client.delete("/api/v1/runs")
    is_problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET"
    is_problem(await service.client.get("/sync"), 405)


@pytest.mark.parametrize(
    "path", ["/api/v1/catalogues/%00", "/api/v1/runs/%ED%A0%80", "/api/v1/runs?cursor=%FF%00", "/api/v1/runs?limit=1e9"]
)
async def test_hostile_addresses_are_4xx(service: Service, path: str) -> None:
    answer = await service.client.get(path)
    is_problem(answer, answer.status_code)
    assert 400 <= answer.status_code < 500


async def test_a_bug_answers_500_with_nothing_but_the_id(service: Service) -> None:
    async def broken() -> None:
        raise RuntimeError("password=hunter2")

    service.app.add_api_route("/broken", broken)
    answer = await service.client.get("/broken")
    is_problem(answer, 500, "internal")
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text


async def test_metrics_count_requests_and_name_the_service(service: Service) -> None:
    await service.client.get("/api/v1/runs")
    answer = await service.client.get("/metrics")
    assert answer.status_code == 200
    text = answer.text
    assert 'reshelve_http_requests_total{handler="/api/v1/runs",method="GET",status="2xx"} 1.0' in text
    assert "reshelve_database_up 1.0" in text
    assert 'reshelve_active_runs{state="queued"} 0.0' in text


async def test_the_api_describes_itself(service: Service) -> None:
    described = (await service.client.get("/api/v1/openapi.json")).json()
    assert "/api/v1/sync" in described["paths"]
    for path in ("/docs", "/redoc", "/openapi.json"):
        is_problem(await service.client.get(path), 404)
