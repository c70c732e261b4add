"""Runs other programs that end by themselves: nothing to read, everything kept, no exception for an exit code."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    extra: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run *command* with our environment and *extra*."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | dict(extra or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """The last thing it said, in short."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return lines[-1][:160] if lines else f"exit code {done.returncode}"
