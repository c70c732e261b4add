"""A Reshelve in a process of its own, which can be killed, stopped, woken or asked to end."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
from anyio import to_thread

from tests.failure.scene import until
from tests.stack import Stack

ROOT = Path(__file__).parents[2]


class Process:
    """One `serve`; its log is a file of JSON lines."""

    def __init__(self, settings: Mapping[str, str], log: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RESHELVE_", "OPENAI_"))}
        self.log = log
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve"], cwd=ROOT, env=kept | settings, stdout=sink, stderr=sink
            )

    def said(self, event: str) -> list[dict[str, Any]]:
        """What it logged of *event*."""
        lines = self.log.read_bytes().splitlines()
        return [line for line in map(_line, lines) if line.get("event") == event]

    async def listening(self) -> None:
        """It answers requests."""
        await until(lambda: self.said("listening") or self._process.poll() is not None, 60)
        assert self._process.poll() is None, self.log.read_text()[-3000:]

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """One request to its API."""
        port = self.said("listening")[0]["port"]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=60, verify=False) as client:
            return await client.request(method, path, json=body)

    async def kill(self) -> None:
        """At once, with no chance to say a word."""
        self._process.kill()
        await to_thread.run_sync(self._process.wait)

    async def end(self, seconds: float) -> int:
        """Ask it to end; its exit code, in time."""
        self._process.terminate()
        return await to_thread.run_sync(self._process.wait, seconds)

    def stop(self) -> None:
        """Not one instruction further, until `wake`."""
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Go on, as if no time had passed."""
        self._process.send_signal(signal.SIGCONT)

    @property
    def running(self) -> bool:
        return self._process.poll() is None


def _line(raw: bytes) -> dict[str, Any]:
    try:
        read = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return read if isinstance(read, dict) else {}


@asynccontextmanager
async def process(here: Stack, **settings: str) -> AsyncIterator[Process]:
    """A process over the database and the engine of *here*, killed at the end if it still runs."""
    given = here.settings
    env = {
        "RESHELVE_DATABASE_URL": given.database_url.get_secret_value(),
        "RESHELVE_ENGINES__MAIN__URL": given.engines["main"].url,
        "RESHELVE_ENGINES__MAIN__VECTORS": given.engines["main"].vectors,
        "RESHELVE_LEASE_SECONDS": str(given.lease_seconds),
        "RESHELVE_PORT": "0",
        # Compiled once for all processes of a session, also where Python is told to keep nothing: a third of a start.
        "PYTHONPYCACHEPREFIX": str(here.folder.parent / "bytecode"),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    logs = len(list(here.folder.glob("process-*.log")))
    made = Process(env | settings, here.folder / f"process-{logs}.log")
    try:
        await made.listening()
        yield made
    finally:
        if made.running:
            await made.kill()
