"""What a run is given to work with: the ports of its catalogue, opened from the connections of this process."""

from functools import partial

from anyio import to_thread

from app import sweeper
from app.catalogues import spec_of
from app.connections import Connections
from app.ledger import RunLedger
from app.models import Catalogue, Generation, Run
from app.spec import EmbedderSpec
from app.sync import admitting, judgements
from app.sync.embedders import model_of
from app.sync.patient import patient, patient_store
from app.sync.planning import Findings, Plan, asked, plan
from app.sync.ports import Embedder, Live
from app.sync.running import Ports
from app.sync.tally import Tally


async def ports_of(connections: Connections, catalogue: Catalogue, run: Run, ledger: RunLedger, tally: Tally) -> Ports:
    """The ports of *run*. Raises `EngineError` for an engine that is unknown or does not answer."""
    spec, settings, limits = spec_of(catalogue), connections.settings, connections.limits
    engine = await connections.engine(spec.target.engine)
    target = patient(engine, limits, tally.retried())
    qrels = spec.policy.qrels
    model = spec.recipe.embedder
    source, embedder = await connections.source(spec, tally.retried("read")), connections.embedder(model)

    async def planned() -> Plan:
        live, found = await ledger.live(), Findings()
        ready = embedder if await asked(admitting.answering(embedder, limits), found) else None
        found += await admitting.findings(spec, source, target, ready, live.index if live else None)
        return await plan(spec, source, ready, ledger.alias_findings, found)

    async def embedder_of(live: Live) -> Embedder:
        assert isinstance(live, Generation)
        embedder = connections.embedder(EmbedderSpec.model_validate((live.recipe or {}).get("embedder")))
        await embedder.ready()
        return embedder

    return Ports(
        source=source,
        target=target,
        embedder=embedder,
        store=patient_store(await target.store(), limits, tally.retried()),
        ledger=ledger,
        limits=limits,
        tally=tally,
        plan=planned,
        clean=partial(sweeper.clean, ledger.db, engine, catalogue.name),
        embedder_of=embedder_of,
        slices=settings.slices,
        strategy=run.strategy,
        dry_run=run.dry_run,
        ceiling=run.ceiling,
        price=settings.price(model.provider, model_of(model)),
        judgements=await to_thread.run_sync(judgements.read, settings.files_dir, qrels) if qrels else None,
    )
