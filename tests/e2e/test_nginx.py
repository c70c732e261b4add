"""nginx in front: streams flow, paths stay whole, what nginx refuses is a problem document."""

import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
import uvicorn
from anyio.from_thread import start_blocking_portal
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from engines.programs import find_nginx
from tests.e2e.nginx import CONF, free_port, nginx

GAP = 1.0
EVENTS = 3


# --- what stands behind ----------------------------------------------------------------------------------------------


async def stream(request: Request) -> Response:
    async def events() -> AsyncIterator[bytes]:
        for number in range(EVENTS):
            yield f"id: {number}\ndata: {time.monotonic()}\n\n".encode()
            await anyio.sleep(GAP)

    async def idle() -> AsyncIterator[bytes]:
        yield b": hello\n\n"
        await anyio.sleep(4)
        yield b"data: still here\n\n"

    async def held() -> AsyncIterator[bytes]:
        yield b": hello\n\n"
        await anyio.sleep(60)

    body = {"idle": idle, "held": held}.get(request.path_params["name"], events)
    return StreamingResponse(body(), media_type="text/event-stream")


async def slow(request: Request) -> Response:
    await anyio.sleep(5)
    return Response("too late")


async def refuse(request: Request) -> Response:
    return JSONResponse({"code": "held", "status": 409}, 409, media_type="application/problem+json")


async def echo(request: Request) -> Response:
    body = await request.body()
    told = {
        "path": request.scope["raw_path"].decode(),
        "query": request.scope["query_string"].decode(),
        "headers": dict(request.headers),
        "body": len(body),
        "peer": request.client.port if request.client else None,
    }
    return JSONResponse(told)


def app() -> Starlette:
    return Starlette(
        routes=[
            Route("/api/v1/catalogues/{name}/stream", stream),
            Route("/api/v1/runs/{name}/stream", stream),
            Route("/slow", slow),
            Route("/refused", refuse),
            Route("/{rest:path}", echo, methods=["GET", "POST"]),
        ]
    )


@contextmanager
def behind() -> Iterator[int]:
    """The port of a service that tells what reached it."""
    server = uvicorn.Server(uvicorn.Config(app(), port=0, log_config=None, ws="none", timeout_graceful_shutdown=1))
    with start_blocking_portal() as portal:
        served = portal.start_task_soon(server.serve)
        while not server.started:
            assert not served.done()
            portal.call(anyio.lowlevel.checkpoint)
        yield server.servers[0].sockets[0].getsockname()[1]
        server.should_exit = True
        served.result(10)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with behind() as port, nginx(find_nginx(), port, tmp_path_factory.mktemp("nginx")) as address:
        yield address


@pytest.fixture(scope="module")
def front_of_nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nginx(find_nginx(), free_port(), tmp_path_factory.mktemp("nginx")) as address:
        yield address


def is_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    return body


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/v1/catalogues/shop/stream", "/api/v1/runs/r1/stream?after=3"])
def test_events_arrive_one_at_a_time(front: str, path: str) -> None:
    late = []
    with httpx.stream("GET", front + path, headers={"Accept-Encoding": "gzip"}, timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers
        for line in answer.iter_lines():
            if line.startswith("data: "):
                late.append(time.monotonic() - float(line.removeprefix("data: ")))
    assert len(late) == EVENTS
    assert max(late) < GAP, "held back to the end, the first one is late by all gaps"


def test_a_silent_stream_outlives_the_time_out_of_everything_else(front: str) -> None:
    answer = httpx.get(front + "/api/v1/catalogues/idle/stream", timeout=20)
    assert "still here" in answer.text
    is_problem(httpx.get(front + "/slow", timeout=20), 504, "gateway_timeout")
    streams = CONF.read_text().split("/stream$ {")[1].split("}")[0]
    assert "proxy_read_timeout 2h;" in streams


# --- what goes through -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/api/v1/runs?catalogue=a%2Fb&x=%20", "/sync", "/api/v1/catalogues/a%2Fb%3F/products//1%20", "/a/./b/../c"]
)
def test_the_path_is_kept_whole(front: str, path: str) -> None:
    told = json.loads(raw(front, f"GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")[1])
    assert told["path"] + ("?" + told["query"] if told["query"] else "") == path
    assert told["headers"]["host"] == "shop.example"


def test_the_request_id_goes_through_when_it_is_a_sane_one(front: str) -> None:
    given = httpx.get(front + "/x", headers={"X-Request-ID": "cron-17"}).json()["headers"]["x-request-id"]
    made = httpx.get(front + "/x", headers={"X-Request-ID": "a b\tc"}).json()["headers"]["x-request-id"]
    assert given == "cron-17"
    assert made != "a b\tc"
    assert len(made) == 32


def test_connections_to_the_service_are_kept(front: str) -> None:
    with httpx.Client() as client:
        peers = {client.get(front + "/x").json()["peer"] for _ in range(20)}
    assert len(peers) <= 2


def test_what_the_service_refuses_passes_as_it_is(front: str) -> None:
    answer = httpx.get(front + "/refused")
    assert (answer.status_code, answer.json()) == (409, {"code": "held", "status": 409})


# --- what nginx refuses ----------------------------------------------------------------------------------------------


def test_a_body_that_is_too_large(front: str) -> None:
    is_problem(httpx.post(front + "/sync", content=b"x" * 1_100_000), 413, "too_large")
    assert httpx.post(front + "/sync", content=b"x" * 1_000_000).json()["body"] == 1_000_000


def test_a_chunked_body_that_is_too_large(front: str) -> None:
    is_problem(httpx.post(front + "/sync", content=iter([b"x" * 100_000] * 11)), 413, "too_large")


def test_an_address_or_a_header_that_is_too_long(front: str) -> None:
    is_problem(httpx.get(front + "/" + "x" * 20_000), 414, "uri_too_long")
    is_problem(httpx.get(front + "/", headers={"X-Long": "x" * 20_000}), 431, "headers_too_large")


def test_what_is_no_http(front: str) -> None:
    status, body = raw(front, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert (status, json.loads(body)["code"]) == (400, "bad_request")


def test_too_many_connections_from_one_address(front: str) -> None:
    limit = 100
    with httpx.Client(limits=httpx.Limits(max_connections=None), timeout=20) as client:
        wanted = [client.build_request("GET", front + "/api/v1/runs/held/stream") for _ in range(limit)]
        held = [client.send(request, stream=True) for request in wanted]
        refused = is_problem(httpx.get(front + "/x"), 429, "too_many")
        for answer in held:
            answer.close()
    assert "again" in refused["detail"]


def test_a_service_that_is_not_there(front_of_nothing: str) -> None:
    answer = httpx.get(front_of_nothing + "/api/v1/runs", headers={"X-Request-ID": "cron-18"})
    assert is_problem(answer, 502, "unreachable")["request_id"] == "cron-18"
    assert answer.headers["retry-after"] == "5"


def raw(address: str, request: str) -> tuple[int, str]:
    """Status and body of an answer to exactly these bytes."""
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()
