"""Streams of a real server on a free port: order, resumption, ends; and a process that is told to stop."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse
from sqlalchemy import delete

from app import progress, runs
from app.config import AuthSettings
from app.errors import Problem
from app.models import Progress
from app.server import Server, listening, server_config
from app.streams import Places
from tests.api.conftest import SHOP, TOKEN, TOKENS, Service, is_problem, settings_for, started

pytestmark = pytest.mark.anyio

API = "/api/v1"
PATIENCE = 20.0


class Live(Service):
    """A service that listens."""

    async def order(self) -> str:
        async with self.parts.db.writing() as session:
            return (await runs.request(session, runs.Order(catalogue="shop"), "tester")).id

    async def say(self, run_id: str | None, *numbers: int) -> None:
        for number in numbers:
            async with self.parts.db.writing() as session:
                await progress.say(session, "shop", "note", {"n": number}, run_id)

    async def cancel(self, run_id: str) -> None:
        assert (await self.client.post(f"{API}/runs/{run_id}/cancel")).status_code == 202


@asynccontextmanager
async def listening_service(folder: Path, **more: Any) -> AsyncIterator[Live]:
    settings = settings_for(folder, port=0, drain_seconds=5, **more)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with listening(settings) as listener:
        async with started(settings) as service, anyio.create_task_group() as group:
            server = Server(server_config(service.app, settings), service.parts.draining)
            group.start_soon(server.serve, [listener])
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE) as client:
                assert (await client.put(f"{API}/catalogues/shop", json=SHOP)).status_code == 201
                yield Live(service.app, client)
            service.parts.draining.set()
            server.should_exit = True


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async with listening_service(tmp_path) as one:
        yield one


async def read(live: Live, path: str, until: int | str, headers: dict[str, str] | None = None) -> list[ServerSentEvent]:
    """Events of a stream: so many lines, or up to an event of that name. Heartbeats are left out."""
    found: list[ServerSentEvent] = []
    with anyio.fail_after(PATIENCE):
        async with aconnect_sse(live.client, "GET", path, headers=headers or {}) as source:
            async for one in source.aiter_sse():
                if one.event != "heartbeat":
                    found.append(one)
                if one.event == until or len(found) == until:
                    break
    return found


def ids(events: list[ServerSentEvent]) -> list[str]:
    return [event.id for event in events if event.event == "message"]


# --- runs ------------------------------------------------------------------------------------------------------------


async def test_a_run_is_told_from_its_first_line_to_its_end(live: Live) -> None:
    run_id = await live.order()
    path = f"{API}/runs/{run_id}/stream"
    found: list[ServerSentEvent] = []
    with anyio.fail_after(PATIENCE):
        async with aconnect_sse(live.client, "GET", path) as source:
            assert source.response.headers["content-type"].startswith("text/event-stream")
            assert source.response.headers["x-accel-buffering"] == "no"
            assert source.response.headers["x-request-id"]
            lines = source.aiter_sse()
            found.append(await anext(lines))
            await live.say(run_id, 1, 2)
            found += [await anext(lines), await anext(lines)]
            await live.cancel(run_id)
            found += [one async for one in lines]
    assert [json.loads(one.data)["seq"] for one in found[:-1]] == [int(one) for one in ids(found)] == [1, 2, 3, 4]
    assert [json.loads(one.data)["kind"] for one in found[:-1]] == ["state", "note", "note", "state"]
    end = found[-1]
    assert end.event == "end"
    assert json.loads(end.data)["state"] == "canceled"


async def test_a_reader_resumes_behind_the_line_it_saw_last(live: Live) -> None:
    run_id = await live.order()
    await live.say(run_id, 1, 2, 3)
    path = f"{API}/runs/{run_id}/stream"
    assert ids(await read(live, path, 4)) == ["1", "2", "3", "4"]
    assert ids(await read(live, path, 2, {"Last-Event-ID": "2"})) == ["3", "4"]
    assert ids(await read(live, f"{path}?after=3", 1)) == ["4"]
    assert ids(await read(live, f"{path}?after=1", 1, {"Last-Event-ID": "3"})) == ["4"]
    await live.cancel(run_id)
    rest = await read(live, path, "end", {"Last-Event-ID": "4"})
    assert (ids(rest), rest[-1].event) == (["5"], "end")


async def test_beyond_the_end_there_is_nothing_and_a_browser_stops_asking(live: Live) -> None:
    run_id = await live.order()
    await live.cancel(run_id)
    path = f"{API}/runs/{run_id}/stream"
    assert ids(await read(live, path, "end")) == ["1", "2"]
    for headers in ({"Last-Event-ID": "2"}, {"Last-Event-ID": "99"}):
        assert (await live.client.get(path, headers=headers)).status_code == 204
    assert (await live.client.get(f"{path}?after=2")).status_code == 204


async def test_an_id_that_is_too_old_gets_the_full_state_and_what_follows(live: Live) -> None:
    run_id = await live.order()
    await live.say(run_id, 1, 2, 3)
    async with live.parts.db.writing() as session:
        await session.exec(delete(Progress).where(Progress.__table__.c.seq < 3))
    path = f"{API}/runs/{run_id}/stream"
    await live.cancel(run_id)
    found = await read(live, path, "end", {"Last-Event-ID": "1"})
    assert [one.event for one in found] == ["resync", "end"]
    assert json.loads(found[0].data)["id"] == run_id
    assert ids(await read(live, path, "end", {"Last-Event-ID": "2"})) == ["3", "4", "5"]


async def test_an_id_that_was_never_given_gets_the_full_state(live: Live) -> None:
    run_id = await live.order()
    found = await read(live, f"{API}/runs/{run_id}/stream", 1, {"Last-Event-ID": "77"})
    assert found[0].event == "resync"


async def test_what_is_no_stream_is_a_problem(live: Live) -> None:
    run_id = await live.order()
    path = f"{API}/runs/{run_id}/stream"
    is_problem(await live.client.get(f"{API}/runs/none/stream"), 404)
    is_problem(await live.client.get(f"{API}/catalogues/none/stream"), 404)
    for bad in ("x", "-1", "1.5", "9" * 30):
        is_problem(await live.client.get(path, headers={"Last-Event-ID": bad}), 422)
        is_problem(await live.client.get(f"{path}?after={bad}"), 422)


# --- catalogues ------------------------------------------------------------------------------------------------------


async def test_a_catalogue_tells_of_all_its_runs_and_of_what_happens_between(live: Live) -> None:
    first = await live.order()
    await live.cancel(first)
    await live.say(None, 7)
    second = await live.order()
    found = await read(live, f"{API}/catalogues/shop/stream", 4)
    assert ids(found) == ["1", "2", "3", "4"]
    assert [json.loads(one.data)["run"] for one in found] == [first, first, None, second]
    assert ids(await read(live, f"{API}/catalogues/shop/stream?after=3", 1)) == ["4"]


async def test_lines_of_another_process_are_seen_without_a_bell(live: Live, tmp_path: Path) -> None:
    run_id = await live.order()
    with anyio.fail_after(PATIENCE):
        async with aconnect_sse(live.client, "GET", f"{API}/runs/{run_id}/stream") as source:
            lines = source.aiter_sse()
            assert (await anext(lines)).id == "1"
            async with started(settings_for(tmp_path)) as other:
                await Live(other.app, other.client).say(run_id, 1)
            assert (await anext(lines)).id == "2"


async def test_a_stream_ends_when_its_catalogue_is_forgotten(live: Live) -> None:
    await live.say(None, 1)
    with anyio.fail_after(PATIENCE):
        async with aconnect_sse(live.client, "GET", f"{API}/catalogues/shop/stream") as source:
            lines = source.aiter_sse()
            assert (await anext(lines)).id == "1"
            assert (await live.client.delete(f"{API}/catalogues/shop")).status_code == 204
            last = [one async for one in lines][-1]
    assert (last.event, json.loads(last.data)) == ("end", {"gone": True})


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_streams_of_one_token_are_limited_and_given_back(tmp_path: Path) -> None:
    async with listening_service(tmp_path, auth=AuthSettings(mode="token", tokens=TOKENS)) as live:
        live.parts.places = Places(most=1)
        run_id = await live.order()
        path = f"{API}/runs/{run_id}/stream"
        with anyio.fail_after(PATIENCE):
            async with aconnect_sse(live.client, "GET", path) as source:
                lines = source.aiter_sse()
                await anext(lines)
                refused = await live.client.get(path)
                is_problem(refused, 429, "too_many_streams")
                assert refused.headers["retry-after"]
                assert "reshelve_sse_streams 1.0" in (await live.client.get("/metrics")).text
                await live.cancel(run_id)
                assert [one.event async for one in lines][-1] == "end"
            assert ids(await read(live, path, "end")) == ["1", "2"]


# --- the end of the process ------------------------------------------------------------------------------------------

SERVE = "from app.config import load_settings; from app.server import serve; serve(load_settings(), works=False)"


@pytest.fixture
def process(tmp_path: Path) -> Any:
    env = os.environ | {
        "RESHELVE_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'reshelve.db'}",
        "RESHELVE_PORT": "0",
        "RESHELVE_DRAIN_SECONDS": "5",
    }
    made = subprocess.Popen([sys.executable, "-c", SERVE], env=env, stderr=subprocess.PIPE, text=True)
    yield made
    made.kill()
    made.communicate()


def wait_for(process: Any, event: str) -> dict[str, Any]:
    """The log line of *event*; every line on the way is JSON."""
    for line in process.stderr:
        said: dict[str, Any] = json.loads(line)
        assert said.keys() >= {"at", "level", "event"}
        if said["event"] == event:
            return said
    raise AssertionError(f"the process ended without {event}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_at_a_signal_streams_say_bye_and_the_process_ends_with_0(process: Any, number: int) -> None:
    port = (await anyio.to_thread.run_sync(wait_for, process, "listening"))["port"]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
        assert (await client.put(f"{API}/catalogues/shop", json=SHOP)).status_code == 201
        with anyio.fail_after(PATIENCE):
            async with aconnect_sse(client, "GET", f"{API}/catalogues/shop/stream") as source:
                process.send_signal(number)
                names = [one.event async for one in source.aiter_sse()]
    assert names[-1] == "bye"
    with anyio.fail_after(PATIENCE):
        assert await anyio.to_thread.run_sync(process.wait) == 0


async def test_what_is_no_http_is_a_problem_document_too(process: Any) -> None:
    port = (await anyio.to_thread.run_sync(wait_for, process, "listening"))["port"]
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"this is no HTTP\r\n\r\n")
        answer = b"".join([part async for part in stream])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 400 " in head
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == "bad_request"


def test_a_taken_port_is_said_in_one_sentence(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, port=0)
    with listening(settings) as taken:
        settings.port = taken.getsockname()[1]
        with pytest.raises(Problem, match="RESHELVE_PORT"), listening(settings):
            raise AssertionError
