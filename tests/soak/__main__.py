"""`python -m tests.soak`: one soak after another on an engine, each proven; exit code 1 when anything differs."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio

from app import logs
from tests.soak.soak import soak


def arguments() -> argparse.ArgumentParser:
    """What both programs take."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", required=True, help="URL of a real engine")
    parser.add_argument("--database", help="URL of an empty database; a new SQLite file without")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where journals and reports are kept")
    return parser


def settings_of(asked: argparse.Namespace) -> dict[str, Any]:
    """The stack's settings that the command line named."""
    return {"database_url": asked.database} if asked.database else {}


def folder_of(asked: argparse.Namespace) -> Path:
    """Where to write."""
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    return Path(folder)


def logged(folder: Path) -> None:
    """What the service logs goes to a file beside the journals."""
    logs.configure("INFO", (folder / "service.log").open("a", encoding="utf-8"))


async def soaked(asked: argparse.Namespace) -> int:
    """How many of the soaks found differences."""
    wrong = 0
    for seed in range(asked.seed, asked.seed + asked.times):
        proof = await soak(asked.engine, asked.folder, seconds=asked.seconds, seed=seed, **settings_of(asked))
        print(f"seed {seed}: {proof}", flush=True)
        wrong += bool(proof.found)
    return wrong


def main() -> None:
    """Read the command line, soak, say what was found."""
    parser = arguments()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--times", type=int, default=1, help="so many, with the seeds that follow")
    asked = parser.parse_args()
    asked.folder = folder_of(asked)
    logged(asked.folder)
    sys.exit(1 if anyio.run(soaked, asked) else 0)


if __name__ == "__main__":
    main()
