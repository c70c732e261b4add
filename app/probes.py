"""What probes and people ask of a running service: is it ready, what is it, what does it talk to.

Both answers are open to anybody, so trouble is named by its code only: no address, no reason. Engines are asked anew
each time, with a short time-out; a model is asked only where that needs no network, else it is shown as last met.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from sqlmodel import select

from app import __version__
from app.errors import Problem
from app.models import Catalogue
from app.spec import EmbedderSpec

if TYPE_CHECKING:
    from app.connections import Connections
    from app.deps import Parts

PROBE_SECONDS = 2.0
"""How long an engine, a model or the database may take; probes are impatient themselves."""

VERSION_SECONDS = 1.0
"""The same where somebody only wants to know who answers."""

PROBE_NAME = "reshelve-probe"
"""An index name that nobody has: asking for it costs an engine nothing."""

MODELS = 20
"""Different models shown at most."""

Found = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent


# --- readiness -------------------------------------------------------------------------------------------------------


async def readiness(parts: "Parts") -> Found:
    """`{"ready", "checks", "engines", "models"}`; engines count only when settings say so."""
    checks: dict[str, Found] = {
        "draining": {"ok": not parts.draining.is_set()},
        "database": await _tried(PROBE_SECONDS, _database, parts),
        "worker": {"ok": parts.worker is None or parts.worker.alive},
    }
    reported = await _reported(parts, PROBE_SECONDS)
    gating = [*checks.values(), *(reported["engines"].values() if parts.settings.ready_needs_engines else ())]
    return {"ready": all(check["ok"] for check in gating), "checks": checks, **reported}


async def _database(parts: "Parts") -> Found:
    have, need = await parts.db.revision()
    return {"ok": have == need, "revision": have}


async def _tried(seconds: float, probe: Any, *args: Any) -> Found:
    """What *probe* found in time, else the code of its trouble."""
    try:
        with anyio.fail_after(seconds):
            found: Found = await probe(*args)
    except TimeoutError:
        return {"ok": False, "code": "timeout"}
    except Problem as problem:
        return {"ok": False, "code": problem.code}
    return found


async def _reported(parts: "Parts", seconds: float) -> dict[str, dict[str, Found]]:
    engines: dict[str, Found] = {}
    models: dict[str, Found] = {}

    async def note(into: dict[str, Found], name: str, probe: Any, *args: Any) -> None:
        into[name] = await _tried(seconds, probe, parts.connections, *args)

    async with anyio.create_task_group() as group:
        for name in parts.settings.engines:
            group.start_soon(note, engines, name, _engine, name)
        for spec in await _embedders(parts, seconds):
            group.start_soon(note, models, _label(spec), _model, spec)
    return {"engines": engines, "models": models}


async def _engine(connections: "Connections", name: str) -> Found:
    engine = await connections.engine(name)
    await engine.resolve(PROBE_NAME)
    about = await engine.about()
    return {"ok": True, "kind": about.kind, "version": about.version}


# --- models ----------------------------------------------------------------------------------------------------------


async def _embedders(parts: "Parts", seconds: float) -> Sequence[EmbedderSpec]:
    """The embedders of all catalogues, and the default one; that one only when the database does not answer."""
    rows: Sequence[Any] = ()
    with anyio.move_on_after(seconds), suppress(Problem):
        async with parts.db.reading() as session:
            rows = (await session.exec(select(Catalogue.spec).limit(500))).all()
    specs = [EmbedderSpec(), *(EmbedderSpec.model_validate(row["recipe"]["embedder"]) for row in rows)]
    return list({_label(spec): spec for spec in specs}.values())[:MODELS]


def _label(spec: EmbedderSpec) -> str:
    return "/".join(str(part) for part in (spec.provider, spec.model, spec.dims) if part is not None)


async def _model(connections: "Connections", spec: EmbedderSpec) -> Found:
    embedder = connections.embedder(spec)
    stamp = await embedder.ready() if spec.provider == "local" else embedder.stamp
    return {"ok": True, "model": stamp.alias, "digest": stamp.version, "dims": stamp.dims}


# --- version ---------------------------------------------------------------------------------------------------------


async def version(parts: "Parts") -> Found:
    """`{"version", "commit", "engines", "models"}`."""
    return {"version": __version__, "commit": commit(), **await _reported(parts, VERSION_SECONDS)}


@cache
def commit() -> str | None:
    """Which commit this is: from the file `COMMIT` that an image carries, else from the checkout's own records."""
    for place in (ROOT / "COMMIT", ROOT / ".git" / "HEAD"):
        if text := _text(place):
            return _resolved(text.removeprefix("ref: ")) if text.startswith("ref: ") else text
    return None


def _resolved(ref: str) -> str | None:
    if found := _text(ROOT / ".git" / ref):
        return found
    lines = [line.partition(" ") for line in _text(ROOT / ".git" / "packed-refs").splitlines()]
    return {name: digest for digest, _, name in lines}.get(ref)


def _text(place: Path) -> str:
    try:
        return place.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
