"""Postgres: this machine's own if it has one, else the published binaries; its data folder, its start, its health."""

import re
import shutil
import signal
import socket
import struct
from pathlib import Path

from engines import homes, shell
from engines.machine import Account
from engines.plans import Instance, Plan
from engines.products import Product
from engines.trouble import Trouble

USER = "reshelve"
SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200"}
OLDEST = 13  # DROP DATABASE ... WITH (FORCE)


def binaries(product: Product) -> Path:
    """The folder with `initdb` and `postgres`."""
    return installed() or homes.home(product) / "bin"


def installed() -> Path | None:
    """The binaries that this machine has, the newest first."""
    places = [Path(line) for line in _bindir()]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: place.parent.name, reverse=True)
    whole = [place for place in places if (place / "initdb").exists() and (place / "postgres").exists()]
    return next((place for place in whole if _major(place) >= OLDEST), None)


def version(place: Path) -> str:
    """What these binaries call themselves, like `17.5`."""
    said = shell.run([str(place / "postgres"), "--version"]).stdout
    return next((word for word in said.split() if word[0].isdigit()), "0")


def plan(product: Product, instance: Instance, account: Account) -> Plan:
    """Make the data folder when it is not there and say how to start."""
    place = binaries(product)
    data = instance.folder / "data"
    if not (data / "PG_VERSION").exists():
        _init(place, data, account)
    settings = SETTINGS | dict(instance.config)
    options = [option for key, value in settings.items() for option in ("-c", f"{key}={value}")]
    command = [str(place / "postgres"), "-D", str(data), "-p", str(instance.port), *options]
    return Plan(command, data / "postmaster.pid", polite=signal.SIGINT)


def _init(place: Path, data: Path, account: Account) -> None:
    part = data.with_name("data.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    account.own(part)
    options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    done = account.run([str(place / "initdb"), "-D", str(part), *options])
    if done.returncode:
        why = shell.reason(done)
        raise Trouble(f"Postgres could not make its data folder {data} ({why}): see whether that disk can be written.")
    part.rename(data)


def _bindir() -> list[str]:
    if not shutil.which("pg_config"):
        return []
    return shell.run(["pg_config", "--bindir"]).stdout.split()


def _major(place: Path) -> int:
    number = re.match(r"\d+", version(place))
    return int(number[0]) if number else 0


# --- health ----------------------------------------------------------------------------------------------------------


def version_at(port: int) -> str | None:
    """The version that a server answers with that lets us in; None while it does not.

    Speaks the start of the wire protocol: a start-up message, then `R` (let in) and `S` (a parameter) messages.
    """
    body = struct.pack(">I", 196608) + f"user\0{USER}\0database\0postgres\0\0".encode()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(struct.pack(">I", len(body) + 4) + body)
            return _server_version(connection)
    except (OSError, ValueError, struct.error):
        return None


def _server_version(connection: socket.socket) -> str | None:
    with connection.makefile("rb") as stream:
        while True:
            kind, length = struct.unpack(">cI", stream.read(5))
            content = stream.read(length - 4)
            if kind == b"S" and content.startswith(b"server_version\0"):
                return content.split(b"\0")[1].decode().split()[0]
            if kind not in b"RSKN":
                return None
