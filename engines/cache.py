"""The folder where things are kept once per machine, safe for processes that fetch at the same time.

<cache>/homes/<name>        unpacked distributions and runtimes; whole, never written again
<cache>/homes/.<name>.part  one that is being made; whoever holds the lock owns it, so a left one is rubbish
<cache>/instances/          records and folders of servers (see `records`)
<cache>/locks/              one lock file per name
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.machine import require_space
from engines.trouble import Trouble, say


def root() -> Path:
    """`RESHELVE_CACHE`, else `/var/cache/reshelve` for root and the user's own cache folder for others."""
    named = os.environ.get("RESHELVE_CACHE")
    if named:
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/reshelve")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reshelve"


def folder(*parts: str) -> Path:
    """A folder in the cache, made when missing."""
    path = root().joinpath(*parts)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
        raise Trouble(f"The folder {path} cannot be made ({reason}): name another with RESHELVE_CACHE.") from None
    return path


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold *name* alone on this machine; the lock ends with the process, whatever happens to it."""
    with (folder("locks") / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is busy with {name}, waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def shared_lock(name: str) -> Iterator[Callable[[], bool]]:
    """Hold *name* together with others; what is given tells whether we are the last, and then nobody else gets in."""
    with (folder("locks") / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)

        def last() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        yield last


def home(name: str, make: Callable[[Path], None], space: int) -> Path:
    """The folder *name*, made by *make* in a part folder and then renamed, unless it is there already."""
    final = folder("homes") / name
    if final.is_dir():
        return final
    with lock(f"home-{name}"):
        if final.is_dir():
            return final
        require_space(final, space)
        part = final.with_name(f".{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            make(part)
            _readable(part)
            part.rename(final)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return final


def _readable(tree: Path) -> None:
    """Let every user read the tree: as root, servers run as another user."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))
