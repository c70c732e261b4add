"""The first thing that a stranger runs: from nothing to answers, once more in no time, and then nothing is left."""

from pathlib import Path

import httpx
import pytest

import engines
from app.cli import exits
from app.cli.demo import QUERIES, TARGET, demo
from app.demo import flow
from engines import machine

pytestmark = pytest.mark.engine


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Ports of its own: a demo that somebody left up on this machine is not touched."""
    found: dict[str, int] = {}
    for kind, (name, _) in list(flow.SERVERS.items()):
        found[kind] = next(port for port in machine.PRIVATE_PORTS if port not in found.values() and _both_free(port))
        monkeypatch.setitem(flow.SERVERS, kind, (name, found[kind]))
    return found


def _both_free(port: int) -> bool:
    return machine.is_free(port) and machine.is_free(machine.transport(port))


@pytest.mark.parametrize("kind", ["elasticsearch", pytest.param("opensearch", marks=pytest.mark.long)])
def test_it_stands_answers_is_reused_and_goes(
    ports: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: flow.Kind
) -> None:
    folder, port = tmp_path / "demo", machine.free_port()
    try:
        assert demo(kind, port, folder=folder) == exits.DONE
        told = capsys.readouterr()
        assert all(query in told.out + told.err for query in QUERIES)
        assert TARGET in told.out + told.err
        runs = httpx.get(f"http://127.0.0.1:{port}/api/v1/runs").json()["items"]
        assert [run["state"] for run in runs] == ["ready"]
        assert demo(kind, port, folder=folder) == exits.DONE
        assert "already" in capsys.readouterr().err
        assert len(httpx.get(f"http://127.0.0.1:{port}/api/v1/runs").json()["items"]) == 1, "there was nothing to do"
    finally:
        assert demo(kind, port, remove=True, folder=folder) == exits.DONE
    assert machine.is_free(port)
    assert machine.is_free(ports[kind])
    assert not folder.exists()
    assert not [server for server, _ in engines.status() if server.port in ports.values()]
