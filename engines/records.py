"""What is known of each server: a JSON file per name and port in `<cache>/instances`, beside the server's folder."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from engines import cache


@dataclass(frozen=True)
class Server:
    """A server that runs, or ran. *started* tells whether this very call started it.

    *pid* is None for one that somebody else started and for a container. *owner* is the process whose private server
    this is: it goes when its owner has gone. A *temporary* one goes with the last who shares it.
    """

    name: str
    version: str
    url: str
    port: int
    pid: int | None = None
    container: str | None = None
    folder: str = ""
    log: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    owner: int | None = None
    temporary: bool = False
    started: bool = False

    @property
    def key(self) -> str:
        """What a record is found by."""
        return f"{self.name}-{self.port}"


def path(name: str, port: int) -> Path:
    """Where the record of this server is kept."""
    return cache.folder("instances") / f"{name}-{port}.json"


def read(name: str, port: int) -> Server | None:
    """What is known of this server."""
    try:
        return Server(**json.loads(path(name, port).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write(server: Server) -> None:
    """Write it down, whole or not at all."""
    file = path(server.name, server.port)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(asdict(replace(server, started=False)), indent=1))
    part.rename(file)


def forget(server: Server) -> None:
    """Remove the record and the server's folder."""
    if server.folder:
        shutil.rmtree(server.folder, ignore_errors=True)
    path(server.name, server.port).unlink(missing_ok=True)


def all_of(name: str | None = None, port: int | None = None) -> list[Server]:
    """Every recorded server, of that name and port if given."""
    files = sorted((cache.root() / "instances").glob("*.json"))
    servers = [read(*_parts(file)) for file in files]
    return [s for s in servers if s and name in (None, s.name) and port in (None, s.port)]


def _parts(file: Path) -> tuple[str, int]:
    name, _, port = file.stem.rpartition("-")
    return name, int(port)
