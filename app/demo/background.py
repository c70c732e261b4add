"""The demo's service as a process of its own: started detached, written down, found again, stopped.

A file `service.json` says which process it is and with which settings it was started. It counts only while that
process lives and its command line is ours, because numbers of processes are given again.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio
import httpx

from app.errors import Problem

ROOT = Path(__file__).resolve().parents[2]
"""Where `python -m app` works from."""

RECORD = "service.json"
LOG = "service.log"

START_SECONDS = 90.0
STOP_SECONDS = 30.0
"""Longer than the service drains."""

DETACHED = 'log=$1; shift; "$@" >>"$log" 2>&1 </dev/null & echo $!'
"""The shell in between ends at once, so that nobody has to wait for the service as for a child."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service that was started; `code` says of which state of the program."""

    pid: int
    port: int
    settings: Mapping[str, str]
    code: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


def found(folder: Path) -> Service | None:
    """The service of *folder*, while it lives."""
    try:
        service = Service(**{"code": 0, **json.loads((folder / RECORD).read_text("utf-8"))})
    except (OSError, ValueError, TypeError):
        return None
    return service if _lives(service.pid) else None


async def start(folder: Path, port: int, settings: Mapping[str, str]) -> Service:
    """Start one in *folder* and wait until it answers. Raises `Problem` with its last words when it does not."""
    service = _spawn(folder, port, settings)
    with anyio.move_on_after(START_SECONDS):
        while _lives(service.pid):
            if await answers(service):
                return service
            await anyio.sleep(0.1)
    await stop(folder)
    raise Problem(f"The service did not start: {_last_words(folder)} (log: {folder / LOG})", code="service_start")


def _spawn(folder: Path, port: int, settings: Mapping[str, str]) -> Service:
    log = folder / LOG
    log.write_text("")
    command = ["sh", "-c", DETACHED, "sh", str(log), sys.executable, "-m", "app", "serve", "--port", str(port)]
    environment = _environment(settings)
    done = subprocess.run(  # noqa: S603 - our own interpreter and program
        command, cwd=ROOT, env=environment, start_new_session=True, capture_output=True, text=True, check=True
    )
    service = Service(int(done.stdout), port, dict(settings), code())
    (folder / RECORD).write_text(json.dumps(asdict(service), indent=1))
    return service


def code() -> int:
    """When the program was last changed: a service that is older must not be taken for it."""
    return max(file.stat().st_mtime_ns for file in (ROOT / "app").rglob("*.py"))


async def answers(service: Service) -> bool:
    """Whether it answers now."""
    try:
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            return (await client.get(f"{service.url}/healthz")).is_success
    except httpx.TransportError:
        return False


async def stop(folder: Path) -> bool:
    """Stop the service of *folder*, by force when it does not listen; whether there was one."""
    service = found(folder)
    if service:
        _signal(service.pid, signal.SIGTERM)
        with anyio.move_on_after(STOP_SECONDS):
            await _gone(service.pid)
        if _lives(service.pid):
            _signal(service.pid, signal.SIGKILL)
            await _gone(service.pid)
    _forget(folder)
    return service is not None


async def _gone(pid: int) -> None:
    while _lives(pid):  # noqa: ASYNC110 - nobody tells us that a process has ended which is not our child
        await anyio.sleep(0.05)


def _forget(folder: Path) -> None:
    (folder / RECORD).unlink(missing_ok=True)


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours, without settings that belong to another service."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RESHELVE_", "OPENAI_"))}
    return kept | dict(settings)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _lives(pid: int) -> bool:
    """Whether *pid* is a service that we started; where there is no `/proc`, whether it is anything at all."""
    try:
        if Path("/proc/self").exists():
            return b"-m\0app\0serve" in Path(f"/proc/{pid}/cmdline").read_bytes()
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _last_words(folder: Path) -> str:
    """The last line of its log that says something."""
    lines = [line for line in (folder / LOG).read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"
