"""A real nginx with the project's own `nginx.conf`: only the ports, the place for its files and a time-out differ."""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.waiting import until

CONF = Path(__file__).parents[2] / "nginx.conf"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def changed(text: str, listen: int, upstream: int, place: Path) -> str:
    """The file for this machine; each change must find what it changes."""
    for old, new in {
        "listen 8080;": f"listen 127.0.0.1:{listen};",
        "server service:8000;": f"server 127.0.0.1:{upstream};",
        "/tmp/": f"{place}/",
        "/dev/stdout": f"{place}/access.log",
        "/dev/stderr": f"{place}/error.log",
        "proxy_read_timeout 120s;": "proxy_read_timeout 2s;",
        "rate=100r/s;": "rate=1000r/s;",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextmanager
def nginx(program: Path, upstream: int, place: Path) -> Iterator[str]:
    """In front of the service at port *upstream*; the address. Everything else is as in the file."""
    port = free_port()
    text = changed(CONF.read_text(), port, upstream, place)
    as_root = re.sub(r"^worker_processes auto;", "worker_processes 1;\ndaemon off;\nuser root;", text, flags=re.M)
    (place / "nginx.conf").write_text(as_root)
    log = (place / "output.log").open("wb")
    process = subprocess.Popen([program, "-p", place, "-c", place / "nginx.conf"], stdout=log, stderr=log)
    try:
        until(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, (place / "output.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
