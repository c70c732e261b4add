"""The connections of one process: engines and embedders by name, opened when first needed and shared by everybody.

An engine that could not be reached is asked again the next time; one that was reached stays open until the end.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from anyio import Lock

from app.config import EmbedderSettings, Settings
from app.errors import Problem
from app.spec import CatalogueSpec, EmbedderSpec, IndexSource
from app.sync.breaker import Breaker
from app.sync.embedders import open_embedder
from app.sync.embedders.guarded import Guarded
from app.sync.engine_port import Engine
from app.sync.engines import open_engine
from app.sync.limits import Limits, ignore
from app.sync.patient import patient
from app.sync.ports import Embedder, Source
from app.sync.sources.index import IndexSource as EngineSource
from app.sync.words import ModelStamp
from app.telemetry import CountedEmbedder


class Connections:
    """Engines, embedders and the limits that all runs of this process share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.limits = Limits.of(settings)
        self._engines: dict[str, Engine] = {}
        self._embedders: dict[str, Embedder] = {}
        self._opening: defaultdict[str, Lock] = defaultdict(Lock)
        self._breakers: dict[str, Breaker] = {}
        self.event_limits = self.limits.for_events()

    async def engine(self, name: str) -> Engine:
        """The engine *name* of the settings. Raises `EngineError` when it is unknown or does not answer."""
        if name not in self.settings.engines:
            raise Problem(
                f"There is no engine {name} in the settings: set RESHELVE_ENGINES__{name.upper()}__URL.",
                code="unknown_engine",
            )
        async with self._opening[name]:
            if name not in self._engines:
                self._engines[name] = await open_engine(self.settings.engines[name])
            return self._engines[name]

    async def source(self, spec: CatalogueSpec, on_retry: Callable[[Problem], None] = ignore) -> Source:
        """What *spec* reads from, patiently; *on_retry* is told what each new try follows."""
        assert isinstance(spec.source, IndexSource)
        engine = patient(await self.engine(spec.source.engine), self.limits, on_retry)
        return EngineSource(engine, spec.source.index)

    def embedder(self, spec: EmbedderSpec) -> Embedder:
        """The embedder of a recipe; one for each way of asking, so that a model is loaded once."""
        key = spec.model_dump_json()
        if key not in self._embedders:
            named = self.settings.embedders.get(spec.provider, EmbedderSettings())
            self._embedders[key] = CountedEmbedder(open_embedder(spec, named, offline=self.settings.offline))
        return self._embedders[key]

    def breaker(self, dependency: str) -> Breaker:
        """The breaker of `engine:<name>`, `source:<engine>/<index>` or `embedder:<provider>/<model>`."""
        return self._breakers.setdefault(dependency, Breaker(dependency))

    @property
    def breakers(self) -> Sequence[Breaker]:
        """All that were asked for."""
        return list(self._breakers.values())

    def guarded(self, spec: EmbedderSpec, stamp: ModelStamp) -> Embedder:
        """The embedder that made a generation's vectors, behind its breaker."""
        breaker = self.breaker(f"embedder:{spec.provider}/{spec.model or stamp.alias}")
        return Guarded(partial(self.embedder, spec), breaker, stamp)

    async def close(self) -> None:
        """Close everything that was opened."""
        for engine in self._engines.values():
            await engine.close()
        for embedder in self._embedders.values():
            await embedder.close()
