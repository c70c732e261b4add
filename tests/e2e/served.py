"""The service as a process of its own, a shop for it to read, and a catalogue; all of it on the engine goes after."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from app.demo.catalogue import products
from tests.e2e.nginx import free_port
from tests.e2e.waiting import until
from tests.stack import Shop, ask

ROOT = Path(__file__).parents[2]


@dataclass
class Served:
    """One service; `up` and `stop` may follow each other, port and database stay."""

    engine: str
    shop: str
    folder: Path
    settings: dict[str, str]
    token: str | None = None
    name: str = field(default_factory=lambda: f"e2e{uuid4().hex[:8]}")
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Start and wait until it is ready."""
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RESHELVE_", "OPENAI_"))},
            "RESHELVE_DATABASE_URL": f"sqlite+aiosqlite:///{self.folder}/reshelve.db",
            "RESHELVE_ENGINES__MAIN__URL": self.engine,
            "RESHELVE_PORT": str(self.port),
            **self.settings,
        }
        log = (self.folder / "service.log").open("ab")
        command = [sys.executable, "-m", "app", "serve"]
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        log.close()
        until(lambda: self.ready() or self.gone(), 60)
        assert not self.gone(), (self.folder / "service.log").read_text()[-3000:]

    def ready(self) -> bool:
        try:
            return httpx.get(self.address + "/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def gone(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def stop(self) -> int:
        """SIGTERM, and how it ended."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request to the API."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        answer = httpx.request(method, f"{self.address}/api/v1{path}", json=body, headers=headers, timeout=60)
        assert answer.is_success, answer.text
        return answer.json()

    def declare(self, **recipe: Any) -> None:
        """The catalogue: from the shop to an alias of its own."""
        target = {"alias": f"{self.name}-live", "replicas": 0}
        spec = {"source": {"index": self.shop}, "target": target, "recipe": recipe}
        self.call("PUT", f"/catalogues/{self.name}", spec)

    def ended(self, run: str) -> dict[str, Any]:
        """The run once it is over."""
        until(lambda: self.call("GET", f"/runs/{run}")["state"] not in ("queued", "running"), 60)
        found: dict[str, Any] = self.call("GET", f"/runs/{run}")
        return found


@contextmanager
def a_shop(engine: str, count: int) -> Iterator[str]:
    """The alias of a shop's index with *count* products."""
    shop = Shop(engine, f"e2e-shop-{uuid4().hex[:8]}")
    shop.fill(products(count))
    yield shop.alias
    shop.drop()


@contextmanager
def served(engine: str, shop: str, folder: Path, token: str | None = None, **settings: str) -> Iterator[Served]:
    """A service that is up; what it built is gone after."""
    here = Served(engine, shop, folder, settings, token)
    try:
        here.up()
        yield here
    finally:
        if not here.gone():
            here.stop()
        for index in ask(engine, "GET", f"/{here.name}*"):
            ask(engine, "DELETE", f"/{index}")
