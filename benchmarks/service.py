"""The service as a benchmark sees it: a process of its own, asked over HTTP, watched from outside."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Watched:
    """Figures taken from outside while a run goes on."""

    rss: list[int] = field(default_factory=list)
    health: list[float] = field(default_factory=list)

    @property
    def peak_mib(self) -> float:
        """The largest resident size seen."""
        return max(self.rss) / 2**20

    def health_ms(self, share: float) -> float:
        """A quantile of the time that `/healthz` took."""
        ordered = sorted(self.health)
        return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]


class Service:
    """One running service."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process, self.url = process, url
        self.client = httpx.Client(base_url=url, timeout=120)
        self.memory = psutil.Process(process.pid)

    def declare(self, name: str, spec: dict[str, Any]) -> None:
        """Declare a catalogue."""
        self.client.put(f"/api/v1/catalogues/{name}", json=spec).raise_for_status()

    def sync(self, name: str, strategy: str = "full") -> dict[str, Any]:
        """A run, waited for; the run as it ended."""
        answer = self.client.post("/sync", json={"catalogue": name, "strategy": strategy})
        answer.raise_for_status()
        address = answer.headers["Location"]
        while True:
            run: dict[str, Any] = self.client.get(address).json()
            if run["state"] in ("ready", "failed", "canceled"):
                return run
            time.sleep(0.1)

    @contextmanager
    def watched(self) -> Iterator[Watched]:
        """Ask `/healthz` and the process's size, over and over, until the block ends."""
        seen, over = Watched(), Event()

        def look() -> None:
            with httpx.Client(base_url=self.url, timeout=30) as client:
                while not over.wait(0.02):
                    start = time.perf_counter()
                    client.get("/healthz").raise_for_status()
                    seen.health.append(time.perf_counter() - start)
                    seen.rss.append(self.memory.memory_info().rss)

        thread = Thread(target=look)
        thread.start()
        try:
            yield seen
        finally:
            over.set()
            thread.join()


@contextmanager
def service(engine: str, **settings: str) -> Iterator[Service]:
    """A service on a free port with a fresh SQLite database; *settings* without their prefix."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        own = {
            "DATABASE_URL": f"sqlite+aiosqlite:///{folder}/bench.db",
            "ENGINES__MAIN__URL": engine,
            "PORT": str(port),
            **settings,
        }
        environment = {**os.environ, **{f"RESHELVE_{name}": value for name, value in own.items()}}
        log_file = Path(folder, "service.log")
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
            try:
                running = Service(process, f"http://127.0.0.1:{port}")
                _wait(running, log_file)
                yield running
            finally:
                process.terminate()
                process.wait(30)


def _wait(running: Service, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    answer = "no answer"
    while time.monotonic() < end and running.process.poll() is None:
        try:
            ready = running.client.get("/readyz")
            if ready.status_code == 200:
                return
            answer = ready.text
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"The service did not get ready: {answer}\n{log.read_text()[-3000:]}")
