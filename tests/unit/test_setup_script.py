"""`scripts/setup` on machines that lack something: one sentence each, and nothing half made is kept."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "env", "dirname", "cat", "sha256sum", "grep", "mkdir", "rm", "chmod")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/setup", folder / "scripts/setup")
    for lock in ("requirements.lock", "requirements-dev.lock"):
        (folder / lock).write_text("")
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    return folder


def setup(checkout: Path, path: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(path), "HOME": str(checkout.parent), "PIP_NO_INDEX": "1", "UV_OFFLINE": "1"} | extra
    command = [str(checkout / "scripts/setup"), "run"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if not line.startswith("setup: ")]
    assert (done.returncode, done.stdout, len(lines)) == (1, "", 1), done.stderr
    return lines[0]


def test_no_python_that_fits(checkout, path):
    (path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (path / "python3").chmod(0o755)
    assert "Python 3.11, 3.12 or 3.13 is missing" in sentence(setup(checkout, path))


def test_no_network_for_uv(checkout, path):
    (path / "python3").symlink_to(Path(sys.base_prefix) / "bin/python3")
    assert "uv is missing and could not be fetched" in sentence(setup(checkout, path))


def test_no_network_for_packages(checkout, path):
    (path / "python3").symlink_to(Path(sys.base_prefix) / "bin/python3")
    script = "#!/bin/sh\ncase $1 in --version) exit 0 ;; venv) mkdir -p .venv/bin ;; *) exit 2 ;; esac\n"
    (path / "uv").write_text(script)
    (path / "uv").chmod(0o755)
    assert "requirements.lock could not be fetched" in sentence(setup(checkout, path))
    assert not (checkout / ".venv/.reshelve").exists()


def test_a_full_disk(checkout, path):
    (path / "python3").symlink_to(Path(sys.base_prefix) / "bin/python3")
    script = "#!/bin/sh\n[ $1 = --version ] && exit 0\necho 'os error 28: No space left on device' >&2\nexit 2\n"
    (path / "uv").write_text(script)
    (path / "uv").chmod(0o755)
    assert "The disk is full" in sentence(setup(checkout, path))
