"""An embedder behind its breaker, for events: known by what a generation says of it, asked only when it must be."""

from collections.abc import Callable, Sequence

from anyio import fail_after

from app.errors import EmbedderError, EmbedderUnavailable
from app.sync.breaker import Breaker
from app.sync.ports import Embedder
from app.sync.words import Embedding, ModelStamp

PORTION = 64
"""Texts of one request to a model that has not told its limits yet."""

EMBED_SECONDS = 15.0
"""How long a model may take for one request: a claim of events lasts not much longer."""

ANSWERS = ("no_vector", "model_changed")
"""Codes of refusals by a model that is well."""


class Guarded:
    """`ports.Embedder` over another one, which need not answer for this one to say its *stamp*."""

    def __init__(self, inner: Callable[[], Embedder], breaker: Breaker, stamp: ModelStamp) -> None:
        """*inner* opens it, or raises `EmbedderError`: settings that lack it hold up what needs it and nothing else."""
        self._inner, self._breaker, self.stamp = inner, breaker, stamp

    async def ready(self) -> ModelStamp:
        """Nothing is asked."""
        return self.stamp

    def portions(self, texts: Sequence[str]) -> Sequence[Sequence[str]]:
        """As the inner one's, once it was asked."""
        try:
            return self._inner().portions(texts)
        except EmbedderError:
            return [texts[start : start + PORTION] for start in range(0, len(texts), PORTION)]

    async def tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """The inner one's."""
        return await self._inner().tokens(texts)

    async def embed(self, texts: Sequence[str]) -> Embedding:
        """The inner one's, unless its breaker is open or it is another model by now."""
        call = self._breaker.enter()
        if call is None:
            detail = "The model is out: it is tried again from time to time."
            raise EmbedderUnavailable(detail, code="embedder_paused", attempts=1)
        try:
            made = await self._asked(texts)
        except EmbedderError as error:
            (call.succeeded if error.code in ANSWERS else call.failed)()
            raise
        else:
            call.succeeded()
        finally:
            call.left()  # whatever else happened says nothing of the model
        return made

    async def _asked(self, texts: Sequence[str]) -> Embedding:
        try:
            with fail_after(EMBED_SECONDS):
                await self._check_same()
                return await self._inner().embed(texts)
        except TimeoutError:
            detail = f"The model did not answer within {EMBED_SECONDS:g} seconds."
            raise EmbedderUnavailable(detail, code="embedder_timeout") from None

    async def _check_same(self) -> None:
        now, then = await self._inner().ready(), self.stamp
        if (now.alias, now.version, now.dims) != (then.alias, then.version, then.dims):
            detail = f"{then.alias} {then.version} is {now.alias} {now.version} now: a full run embeds all anew."
            raise EmbedderError(detail, code="model_changed")

    async def close(self) -> None:
        """The inner one is closed by whoever opened it."""
