"""What this machine is and who may run what on it: platform, disk, ports, processes, the user that servers run as."""

import os
import platform
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engines import shell
from engines.trouble import Trouble

MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64v8", "arm64": "arm64v8"}
ROOM = 500_000_000  # what stays free for a server's own data
PRIVATE_PORTS = range(27500, 29500)  # below the range from which Linux takes ports for outgoing connections


def machine(system: str = sys.platform, processor: str | None = None) -> str:
    """This processor in the spelling of the Postgres artefacts."""
    processor = (processor or platform.machine()).lower()
    if system != "linux" or processor not in MACHINES:
        raise Trouble(
            f"Servers can be started on Linux (x86-64 or ARM64) only and this is {system} on {processor}: "
            "start them yourself and name them with RESHELVE_TEST_ELASTICSEARCH_9 and its siblings."
        )
    return MACHINES[processor]


def require_space(folder: Path, need: int, free: Callable[[Path], int] | None = None) -> None:
    """Refuse before anything is written when *folder*'s disk has less than *need* bytes and some room for data."""
    there = next(p for p in (folder, *folder.parents) if p.exists())
    found = free(there) if free else int(shutil.disk_usage(there).free)
    if found < need + ROOM:
        raise Trouble(
            f"The disk of {folder} has {found // 1_000_000:,} MB free and {(need + ROOM) // 1_000_000:,} MB are "
            "needed: free some space or name another folder with RESHELVE_CACHE."
        )


# --- ports -----------------------------------------------------------------------------------------------------------


def is_free(port: int) -> bool:
    """Nobody listens on *port* of the loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that is free together with its `transport`."""
    start = os.getpid() % len(PRIVATE_PORTS)
    ports: list[int] = [*PRIVATE_PORTS[start:], *PRIVATE_PORTS[:start]]
    for port in ports:
        if is_free(port) and is_free(transport(port)):
            return port
    raise Trouble("No free port is left between 27500 and 29500: stop some servers (python -m engines status).")


def transport(port: int) -> int:
    """The port on which an engine's node would talk to others, beside its HTTP *port*."""
    return port - 10_000 if port > 20_000 else port + 10_000


def holder(port: int) -> str:
    """Who listens on *port*, as far as this user may see: `nginx (pid 12)`, else `another program`."""
    wanted = {f"socket:[{inode}]" for inode in _listening(port)}
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(fd) in wanted:
                process = fd.parents[1]
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue
    return "another program"


def _listening(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                yield fields[9]


def require_port(port: int) -> None:
    """Refuse when somebody listens on *port*."""
    if not is_free(port):
        raise Trouble(f"Port {port} is taken by {holder(port)}: stop it or choose another port.")


# --- the user that servers run as ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """Who runs a server; *uid* is None when that is simply us."""

    uid: int | None = None
    gid: int | None = None

    def own(self, folder: Path) -> None:
        """Give *folder* and all below it to this user."""
        if self.uid is None or self.gid is None:
            return
        for path in (folder, *folder.rglob("*")):
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def reaches(self, path: Path) -> bool:
        """This user may use *path*."""
        return self.run(["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)]).returncode == 0

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a short command as this user and keep what it says."""
        groups: list[int] | None = None if self.uid is None else []
        return subprocess.run(
            command,
            user=self.uid,
            group=self.gid,
            extra_groups=groups,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def account() -> Account:
    """Us, or, for root, a user of its own that is made when it is missing."""
    if os.geteuid() != 0:
        return Account()
    name = os.environ.get("RESHELVE_ENGINE_USER", "reshelve-engines")
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        _add_user(name)
        entry = pwd.getpwnam(name)
    return Account(entry.pw_uid, entry.pw_gid)


def _add_user(name: str) -> None:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/sh", name]
    try:
        done = shell.run(command)
    except FileNotFoundError:
        raise Trouble(
            f"These servers refuse root and useradd is missing: make a user '{name}' or be another."
        ) from None
    if done.returncode not in (0, 9):  # 9: somebody made it meanwhile
        why = shell.reason(done)
        raise Trouble(f"These servers refuse root and the user '{name}' could not be made ({why}): make it yourself.")


# --- processes -------------------------------------------------------------------------------------------------------


def alive(pid: int | None) -> bool:
    """The process is there and not only waiting to be reaped."""
    if not pid:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def belongs(pid: int | None, folder: Path) -> bool:
    """The process is alive and its command line names *folder*: a number that was given again is not ours."""
    if not alive(pid):
        return False
    try:
        return str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def end(pid: int, polite: signal.Signals, patience: float = 30) -> None:
    """Ask the process to end, and end it when it does not."""
    for number, seconds in ((polite, patience), (signal.SIGKILL, 10.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        if wait(lambda: not alive(pid), seconds):
            return
    raise Trouble(f"Process {pid} does not end, not even when killed: look at it with ps.")


def wait(condition: Callable[[], bool], seconds: float, every: float = 0.1) -> bool:
    """Ask again and again; False when it did not become true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
