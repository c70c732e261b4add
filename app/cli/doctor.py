"""The verb `doctor`: looks at settings, database, engines, embedders and disk as the service would, and says what ails.

It asks the parts themselves, not the service, because it is for the day on which the service does not start. Nothing
is written and nothing is migrated. The parts are imported when they are looked at: most verbs never need them, and a
command line should be there at once.
"""

import shutil
from collections.abc import Awaitable
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import anyio
import typer

from app.cli import exits, say
from app.cli.files import database_file
from app.cli.say import Format
from app.cli.verb import local
from app.config import EmbedderSettings, EngineSettings, Settings, load_settings
from app.errors import Problem
from app.spec import EmbedderSpec

ROOM = 1_000_000_000
"""Bytes that should be free where SQLite writes."""

PATIENCE = 30.0
"""Seconds that one part may take to answer."""

NEEDLESS = {
    "base64_vectors": "vectors travel as lists of numbers",
    "vectors_apart": "vectors are read from _source",
}
"""What is done without an ability that an engine lacks."""


State = Literal["well", "note", "ill"]
Look = tuple[State, str]


@dataclass(frozen=True, slots=True)
class Symptom:
    """What was found of one part."""

    part: str
    state: State
    detail: str


def add(app: typer.Typer) -> None:
    """Add the verb to *app*."""
    local(app, "doctor", doctor)


def doctor(output: Annotated[Format, typer.Option("--output", "-o", help="How data is printed.")] = "table") -> int:
    """Check settings, database, engines, embedders and disk; exits with 1 when something ails."""
    found = anyio.run(_examined, load_settings())
    say.items([asdict(symptom) for symptom in found], ("part", "state", "detail"), output)
    ill = sum(symptom.state == "ill" for symptom in found)
    say.words(f"{ill} of {len(found)} findings need your hand." if ill else "All is well.", "red" if ill else "green")
    return exits.FAILED if ill else exits.DONE


async def _examined(settings: Settings) -> list[Symptom]:
    found = [_listening(settings), await _patiently("database", _database(settings))]
    for name, engine in settings.engines.items():
        found.append(await _patiently(f"engine {name}", _engine(engine)))
    for name, embedder in settings.embedders.items():
        found.append(await _patiently(f"embedder {name}", _embedder(name, embedder, settings.offline)))
    return found + _disk(settings)


async def _patiently(part: str, look: Awaitable[Look]) -> Symptom:
    """What *look* found, or the trouble it met."""
    try:
        with anyio.fail_after(PATIENCE):
            return Symptom(part, *await look)
    except Problem as problem:
        return Symptom(part, "ill", problem.detail)
    except TimeoutError:
        return Symptom(part, "ill", f"did not answer within {PATIENCE:.0f} seconds")


def _listening(settings: Settings) -> Symptom:
    from app.auth import check_listening

    try:
        check_listening(settings)
    except Problem as problem:
        return Symptom("settings", "ill", problem.detail)
    return Symptom("settings", "well", f"listens on {settings.host}:{settings.port}, access {settings.auth.mode}")


async def _database(settings: Settings) -> Look:
    from app.db import open_database

    file = database_file(settings)
    if file and not await anyio.Path(file).exists():
        return "note", f"{file} is not there yet: `reshelve serve` makes it"
    db = await open_database(settings.database_url.get_secret_value())
    try:
        await db.check_durable()
        current, head = await db.revision()
    finally:
        await db.close()
    if current == head:
        return "well", f"{db.dialect} at revision {head}"
    migrates = db.dialect == "sqlite"
    cure = "`reshelve serve` migrates it" if migrates else "run: reshelve db upgrade"
    return "note" if migrates else "ill", f"{db.dialect} at revision {current or 'none'}, needs {head}: {cure}"


async def _engine(settings: EngineSettings) -> Look:
    from app.sync.engines import open_engine

    engine = await open_engine(settings)
    try:
        about = await engine.about()
    finally:
        await engine.close()
    lacks = [f"{name}: {NEEDLESS.get(name, 'done without')}" for name, there in about.abilities.items() if not there]
    what = f"{about.kind} {about.version} at {settings.url}, {about.data_nodes} data node(s)"
    return ("note", f"{what}; lacks {'; '.join(lacks)}") if lacks else ("well", what)


async def _embedder(name: str, configured: EmbedderSettings, offline: bool) -> Look:
    """The local model is loaded. An endpoint is asked only when it is configured, for its default model."""
    from app.sync.embedders import open_embedder

    if name != "local" and not (configured.url or configured.api_key):
        return "note", "not configured"
    try:
        embedder = open_embedder(EmbedderSpec(provider=name), configured, offline=offline)
    except Problem as problem:
        if problem.code != "unknown_model":
            raise
        return "note", "each catalogue names its model"
    try:
        stamp = await embedder.ready()
    finally:
        await embedder.close()
    return "well", f"{stamp.alias} ({stamp.version}), {stamp.dims} dims"


def _disk(settings: Settings) -> list[Symptom]:
    """Where SQLite writes; a Postgres looks after its own."""
    file = database_file(settings)
    if file is None:
        return []
    folder = file.parent
    if not folder.is_dir():
        return [Symptom("disk", "ill", f"the folder {folder} does not exist: make it, or change RESHELVE_DATABASE_URL")]
    free = shutil.disk_usage(folder).free
    return [Symptom("disk", "well" if free >= ROOM else "ill", f"{free / 1e9:.1f} GB free at {folder}")]
