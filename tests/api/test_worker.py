"""What a worker does beside its runs, and when it stops claiming."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from app import sweeper
from tests.api.conftest import SHOP, Service, TwinConnections, ended, settings_for, started
from tests.failure.scene import until

pytestmark = pytest.mark.anyio

API = "/api/v1"


class Chore:
    """In the place of the sweeper; *wrong* is what becomes of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wrong: Exception | None = None) -> None:
        self.called, self._wrong = anyio.Event(), wrong
        monkeypatch.setattr(sweeper, "sweep", self.sweep)

    async def sweep(self, *_: Any, **__: Any) -> int:
        self.called.set()
        if self._wrong:
            raise self._wrong
        return 0


async def test_a_chore_that_breaks_ends_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chore, settings = Chore(monkeypatch, ValueError("a row that nobody can read")), settings_for(tmp_path)
    async with started(settings, works=True, connections=TwinConnections(settings)) as service:
        await chore.called.wait()
        worker = service.parts.worker
        await service.client.put(f"{API}/catalogues/shop", json=SHOP)
        run = (await service.client.post("/sync")).json()["id"]
        assert (await ended(service, run))["state"] == "ready"
        assert service.parts.worker is worker


@pytest.mark.parametrize("read_only", [False, True])
async def test_while_read_only_nothing_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    settings = settings_for(tmp_path)
    async with started(settings) as service:
        await service.client.put(f"{API}/maintenance", json={"read_only": read_only})
    chore = Chore(monkeypatch)
    async with started(settings, works=True, connections=TwinConnections(settings)):
        with anyio.move_on_after(2 if read_only else 30):
            await chore.called.wait()
    assert chore.called.is_set() is not read_only


async def test_from_the_signal_on_nothing_is_claimed(twin: Service) -> None:
    """Requests that are under way may take a while yet: it is not the end of them that is waited for."""
    worker = twin.parts.worker
    assert worker is not None
    twin.parts.draining.set()
    await until(lambda: not worker.alive)
    run = (await twin.client.post("/sync")).json()["id"]
    assert (await twin.client.get(f"{API}/runs/{run}")).json()["state"] == "queued"
