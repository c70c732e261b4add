"""Opening an engine: what it is, and what is said when it is none, does not answer or does not let us in."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream

from app.config import EngineSettings
from app.errors import EngineError, EngineUnavailable
from app.sync.engines import open_engine

pytestmark = pytest.mark.anyio

NOBODY = "http://127.0.0.1:1"

Answer = tuple[int, dict[str, str], object]


@asynccontextmanager
async def server(answer: Callable[[str], Answer]) -> AsyncIterator[str]:
    """A small HTTP server that answers each request line with *answer*."""

    async def handle(stream: SocketStream) -> None:
        async with stream:
            request = await stream.receive()
            status, headers, body = answer(request.decode().split("\r\n")[0])
            raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            lines = [f"HTTP/1.1 {status} x", f"content-length: {len(raw)}", "connection: close"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            await stream.send("\r\n".join([*lines, "", ""]).encode() + raw)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield f"http://127.0.0.1:{port}"
        group.cancel_scope.cancel()


ELASTIC = {"x-elastic-product": "Elasticsearch", "content-type": "application/json"}
JSON = {"content-type": "application/json"}


async def refused(answer: Callable[[str], Answer]) -> EngineError:
    async with server(answer) as url:
        with pytest.raises(EngineError) as error:
            await open_engine(EngineSettings(url=url, username="shop", password="secret"))
    assert "secret" not in error.value.detail
    assert url in error.value.detail
    return error.value


async def test_the_server_is_asked_what_it_is(engine_url: str) -> None:
    engine = await open_engine(EngineSettings(url=engine_url))
    about = await engine.about()
    await engine.close()
    assert about.kind in ("elasticsearch", "opensearch")
    assert int(about.version.split(".")[0]) >= 2


async def test_a_server_that_is_not_there_is_worth_another_try() -> None:
    with pytest.raises(EngineUnavailable, match=r"http://127\.0\.0\.1:9 did not answer"):
        await open_engine(EngineSettings(url="http://user:secret@127.0.0.1:9"))


async def test_something_else_is_told_from_an_engine() -> None:
    error = await refused(lambda _: (200, {"content-type": "text/html"}, "<html>"))
    assert error.code == "engine_unknown"
    error = await refused(lambda _: (200, JSON, {"version": {"number": "1.0", "distribution": "other"}}))
    assert error.code == "engine_unknown"


async def test_a_version_that_is_too_old_is_told() -> None:
    error = await refused(lambda _: (200, ELASTIC, {"version": {"number": "7.17.0"}}))
    assert error.code == "engine_version"
    error = await refused(lambda _: (200, JSON, {"version": {"number": "1.3.0", "distribution": "opensearch"}}))
    assert error.code == "engine_version"


async def test_credentials_that_are_not_accepted_are_told() -> None:
    body = {"error": {"type": "security_exception", "reason": "unable to authenticate user [shop]"}}
    assert (await refused(lambda _: (401, ELASTIC, body))).code == "engine_unauthorized"
    assert (await refused(lambda _: (401, {}, "Unauthorized"))).code == "engine_unauthorized"


async def test_an_engine_that_hides_its_version_is_asked_for_its_nodes() -> None:
    def answer(line: str) -> Answer:
        if "_nodes" in line:
            return 200, ELASTIC, {"nodes": {"a": {"version": "8.19.0"}}}
        if "_cluster" in line:
            return 200, ELASTIC, {"number_of_data_nodes": 3}
        return 405, ELASTIC, {"error": "Incorrect HTTP method"}

    async with server(answer) as url:
        engine = await open_engine(EngineSettings(url=url))
        about = await engine.about()
        await engine.close()
    assert (about.kind, about.version, about.data_nodes) == ("elasticsearch", "8.19.0", 3)


@pytest.mark.parametrize("headers", [ELASTIC, JSON], ids=["elasticsearch", "opensearch"])
async def test_a_connection_that_breaks_or_an_answer_that_is_cut_is_worth_another_try(headers: dict[str, str]) -> None:
    version = {"number": "9.0.0", "distribution": "opensearch"}

    def answer(line: str) -> Answer:
        return (200, headers, '{"hits": {') if "_cluster" in line else (200, headers, {"version": version})

    async with server(answer) as url:
        engine = await open_engine(EngineSettings(url=url))
        with pytest.raises(EngineUnavailable, match="broke off"):
            await engine.about()
    with pytest.raises(EngineUnavailable, match="did not answer"):
        await engine.about()
    await engine.close()


@pytest.mark.parametrize("url", [NOBODY, NOBODY.replace("http", "https")])
async def test_ca_certs_that_cannot_be_read_are_told_whatever_the_address(url: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="CA_CERTS") as told:
        await open_engine(EngineSettings(url=url, ca_certs=tmp_path / "none.pem"))
    assert told.value.code == "engine_tls"


async def test_plain_http_reads_no_trust_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl.create_default_context", lambda **_: pytest.fail("read for nothing"))
    with pytest.raises(EngineUnavailable):
        await open_engine(EngineSettings(url=NOBODY))
