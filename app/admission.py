"""Admission: everything that would make a run fail later, found when it is ordered, all at once."""

from anyio import to_thread

from app.aliases import Stand, findings, look
from app.catalogues import spec_of
from app.connections import Connections
from app.db import Database
from app.models import Catalogue
from app.spec import EmbedderSpec
from app.sync import admitting, judgements
from app.sync.planning import Findings, asked, plan
from app.sync.ports import Embedder


async def check(db: Database, connections: Connections, catalogue: Catalogue) -> None:
    """Raises `Refused` with all findings when a full run of *catalogue* could not succeed now."""
    spec, found = spec_of(catalogue), Findings()
    if spec.policy.qrels:
        await asked(_judged(connections, spec.policy.qrels), found)
    source = await asked(connections.source(spec), found)
    target = await asked(connections.engine(spec.target.engine), found)
    embedder = await asked(_opened(connections, spec.recipe.embedder), found)
    stand = await asked(look(db, target, catalogue.name), found) if target else None
    found += await admitting.findings(spec, source, target, embedder, _live(stand))

    async def alias_findings() -> Findings:
        return findings(stand) if stand else []

    await plan(spec, source, embedder, alias_findings, found)


def _live(stand: Stand | None) -> str | None:
    return stand.live.index if stand and stand.live else None


async def _judged(connections: Connections, qrels: str) -> judgements.Judgements:
    return await to_thread.run_sync(judgements.read, connections.settings.files_dir, qrels)


async def _opened(connections: Connections, spec: EmbedderSpec) -> Embedder:
    """The embedder, which answers; one that does not is told once."""
    embedder = connections.embedder(spec)
    await admitting.answering(embedder, connections.limits)
    return embedder
