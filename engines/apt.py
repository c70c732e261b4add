"""Debian's packages: installed where we are root, unpacked into a folder where we need not be."""

import os
import shutil
from pathlib import Path

from engines import cache, shell
from engines.trouble import say


def usable() -> bool:
    """We may install packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(package: str) -> str:
    """Install *package*; empty when it went well, else the reason in short."""
    with cache.lock("apt"):
        say(f"installing Debian's {package}")
        return _run_with_lists("install", "-y", "--no-install-recommends", package)


def fetch(package: str, into: Path) -> str:
    """Unpack *package* into a folder, without installing it or what it needs; needs no root. Empty, or the reason."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return "this is no Debian"
    with cache.lock("apt"):
        say(f"fetching Debian's {package}")
        reason = _run_with_lists("download", package, cwd=into)
    if reason:
        return reason
    (archive,) = into.glob(f"{package}_*.deb")
    done = shell.run(["dpkg-deb", "--extract", str(archive), str(into)])
    archive.unlink()
    return shell.reason(done) if done.returncode else ""


def _run_with_lists(*arguments: str, cwd: Path | None = None) -> str:
    """The lists of packages are fetched only when it does not go without."""
    reason = _run(*arguments, cwd=cwd)
    if reason and not _run("update"):
        reason = _run(*arguments, cwd=cwd)
    return reason


def _run(*arguments: str, cwd: Path | None = None) -> str:
    command = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", *arguments]
    done = shell.run(command, cwd=cwd, extra={"DEBIAN_FRONTEND": "noninteractive"})
    return shell.reason(done) if done.returncode else ""
