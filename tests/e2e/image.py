"""Builds what our Dockerfile describes in a folder, where no docker engine runs: a small interpreter of its steps.

It knows what our file uses and refuses everything else: ARG, FROM ... AS, COPY [--from], RUN [--mount=type=cache], ENV,
WORKDIR, VOLUME, EXPOSE, USER, HEALTHCHECK CMD [...], CMD [...].

- Each stage is a folder. A path of the image that the file names (below `ROOTED`) means that path in the stage's
  folder: in COPY and WORKDIR by joining, in RUN, ENV and CMD by putting the folder before it, and in scripts that
  `COPY --from` carries over, so that they point to the stage they are in now.
- `FROM python:...` gives the stage this machine's Python, one that other users may run, and a `pip` beside it.
- COPY from the context sees only what `.dockerignore` lets through.
- A cache mount is a folder that stays on this machine.
- USER takes effect where the command is started: as root we really become that user, else we stay who we are.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOTED = ("/opt/venv", "/srv/reshelve", "/var/lib/reshelve", "/build", "/root/.cache/pip")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reshelve" / "pip"


@dataclass
class Image:
    """One stage so far."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0"
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    exposed: str = ""

    def inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def rooted(self, text: str) -> str:
        """*text* with the image's paths turned into those of its folder."""
        for path in ROOTED:
            text = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w-])", str(self.inside(path)), text)
        return text

    def environment(self) -> dict[str, str]:
        path = f"{self.root}/usr/local/bin:/usr/bin:/bin"
        return {"PATH": path, "LANG": "C.UTF-8", **{name: self.rooted(value) for name, value in self.env.items()}}


def steps(text: str) -> list[tuple[str, str]]:
    """Instructions and their arguments; comments dropped, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    split = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in split]


def build(place: Path, **args: str) -> Image:
    """The last stage of the Dockerfile, built below *place*; *args* as `--build-arg` would give them."""
    builder = Builder(place, args)
    for word, rest in steps((ROOT / "Dockerfile").read_text()):
        getattr(builder, f"do_{word.lower()}")(rest)
    return builder.image


class Builder:
    """Does one step after the other."""

    def __init__(self, place: Path, given: dict[str, str]) -> None:
        self.place, self.given = place, given
        self.args: dict[str, str] = {}
        self.stages: dict[str, Image] = {}
        self.image = Image(place)

    def valued(self, text: str) -> str:
        """*text* with `${NAME}` of arguments and of the environment so far."""
        known = {"PATH": "/usr/local/bin:/usr/bin:/bin", **self.args, **self.image.env}
        return re.sub(r"\$\{(\w+)\}", lambda found: known[found[1]], text)

    def do_arg(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self.args[name] = self.given.get(name, value)

    def do_from(self, rest: str) -> None:
        base, *named = self.valued(rest).split()
        assert re.fullmatch(r"python:3\.\d+-slim", base), base
        name = named[1] if named else str(len(self.stages))
        self.image = self.stages[name] = Image(self.place / name)
        give_python(self.image)

    def do_copy(self, rest: str) -> None:
        flags, (source, target) = _flags(rest)
        origin = self.stages[flags["from"]] if "from" in flags else None
        there = self.image.inside(target)
        there.parent.mkdir(parents=True, exist_ok=True)
        if origin is None:
            copied(ROOT / source, there)
            return
        shutil.copytree(origin.inside(source), there, symlinks=True)
        for script in filter(Path.is_file, (there / "bin").glob("*")):
            if not script.is_symlink():
                script.write_text(script.read_text().replace(str(origin.root), str(self.image.root)))

    def do_run(self, rest: str) -> None:
        flags, _ = _flags(rest)
        command = re.sub(r"^(--\S+\s+)+", "", rest)
        is_cached = flags.get("mount") == "type=cache,target=/root/.cache/pip"
        cache = {"PIP_CACHE_DIR": str(CACHE)} if is_cached else {}
        if os.geteuid() != 0:
            command = re.sub(r"install -d -o \d+ -g \d+", "install -d", command)
        given = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP"))}
        env = {**self.args, **given, **self.image.environment(), **cache}
        done = subprocess.run(["sh", "-c", self.image.rooted(command)], env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"

    def do_env(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            self.image.env[name] = self.valued(value)

    def do_workdir(self, rest: str) -> None:
        self.image.workdir = rest

    def do_volume(self, rest: str) -> None:
        assert self.image.inside(rest).is_dir()

    def do_expose(self, rest: str) -> None:
        self.image.exposed = rest

    def do_user(self, rest: str) -> None:
        self.image.user = rest

    def do_healthcheck(self, rest: str) -> None:
        self.image.health = json.loads(rest.partition("CMD ")[2])

    def do_cmd(self, rest: str) -> None:
        self.image.command = json.loads(rest)


def _flags(rest: str) -> tuple[dict[str, str], list[str]]:
    words = rest.split()
    flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word[2:])
    return flags, [word for word in words if not word.startswith("--")]


# --- what the base image and the context are -------------------------------------------------------------------------


def open_to_all(program: Path) -> bool:
    """Whether another user may run it: every folder on the way lets them through."""
    real = program.resolve()
    return real.is_file() and all(os.stat(folder).st_mode & 0o001 for folder in (real, *real.parents))


def find_python() -> Path:
    """This machine's Python for the image: as root one that a user without rights may run."""
    names = [f"/usr/{where}bin/python3.{minor}" for minor in (13, 12, 11) for where in ("local/", "")]
    own = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    for program in (own, *map(Path, names)):
        if program.is_file() and (os.geteuid() != 0 or open_to_all(program)):
            return program
    raise AssertionError(f"root's Python {own} is closed to other users, and none of {names} is here: install one")


def give_python(image: Image) -> None:
    """`python` and `pip` in the stage's /usr/local/bin."""
    folder = image.inside("/usr/local/bin")
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(find_python())
    tools = image.root / "pip"
    subprocess.run([sys.executable, "-m", "venv", tools], check=True, capture_output=True)
    (folder / "pip").write_text(f'#!/bin/sh\nexec "{tools}/bin/python" -m pip "$@"\n')
    (folder / "pip").chmod(0o755)


def allowed(path: Path) -> bool:
    """What `.dockerignore` lets through: nothing but `!` entries, and of those not what is excluded after them."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    where = path.relative_to(ROOT)
    inside = False
    for line in lines:
        kept, pattern = line.startswith("!"), line.lstrip("!")
        if any(_matches(part, pattern) for part in (where, *where.parents) if part != Path()):
            inside = kept
    return inside


def _matches(path: Path, pattern: str) -> bool:
    return (
        path.match(pattern.removeprefix("**/"))
        if pattern.startswith("**/")
        else path.match("/" + pattern) or (str(path) == pattern or (pattern == "*" and len(path.parts) == 1))
    )


def copied(source: Path, target: Path) -> None:
    """COPY of a file or a folder from the context."""
    assert allowed(source), f"{source} is in .dockerignore"
    if source.is_file():
        shutil.copy(source, target)
        return

    def left_out(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if not allowed(Path(folder) / name)]

    shutil.copytree(source, target, ignore=left_out)
