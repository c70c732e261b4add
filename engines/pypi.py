"""One package from PyPI into a folder, with whatever installer is there."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from engines import shell


class NotInstalled(Exception):
    """The package could not be installed; the text is the reason in short."""


def install(requirement: str, into: Path) -> None:
    """Install *requirement*, alone, into the folder *into*."""
    reason = "neither pip nor uv was found"
    for installer in _installers():
        command = [*installer, "--quiet", "--no-deps", "--target", str(into), requirement]
        done = shell.run(command)
        if done.returncode == 0:
            return
        reason = shell.reason(done).removeprefix("ERROR: ")
    raise NotInstalled(reason)


def _installers() -> list[list[str]]:
    """Our own pip, uv, and the pip of the Python that our environment was made from."""
    commands = []
    if importlib.util.find_spec("pip"):
        commands.append([sys.executable, "-m", "pip", "install"])
    if shutil.which("uv"):
        commands.append(["uv", "pip", "install", "--python", sys.executable])
    base = Path(sys.base_prefix) / "bin/python3"
    if sys.prefix != sys.base_prefix and os.access(base, os.X_OK):
        commands.append([str(base), "-m", "pip", "install"])
    return commands
