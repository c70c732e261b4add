"""Vectors from OpenAI or from anything that speaks its protocol.

`ready` asks for the vector of one word, so that a wrong key, model or number of dims is found before anything is
built; the number of dims is what comes back. An answer younger than half a minute is proof enough and is not asked for
again. After that a request holds at most 2,048 texts of 8,192 tokens, 300,000 tokens together by estimate.

An endpoint with narrower limits teaches them: one that names its limit of tokens has every text cut to it; one that
refuses a batch for its size, or does not finish it in time, gets smaller ones, which grow again slowly.
"""

import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from anyio import Lock, to_thread

from app.errors import EmbedderError, EmbedderUnavailable
from app.sync.embedders.answer import Answer
from app.sync.embedders.asking import Ask, Estimate, InputRefused, split
from app.sync.fit import refuse_unfit
from app.sync.pacing import Pace
from app.sync.words import Embedding, ModelStamp

if TYPE_CHECKING:
    from app.sync.embedders.wire import Endpoint

INPUTS = 2048
TEXT_TOKENS = 8192
REQUEST_TOKENS = 300_000
"""OpenAI's limits: texts a request, tokens a text, tokens a request."""

DIMS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
"""What these models give when they are not asked for another number; ada-002 cannot be."""

ANSWER_BYTES = 8_000_000
"""An answer of twice that size is parsed in about 50 ms, in which nothing else in the process moves."""

PROBE = "product"
FRESH_SECONDS = 30.0
SHORTEST_LIMIT = 64
SHRINKS = 8


class OpenAIEmbedder:
    """One model at one address."""

    def __init__(self, ask: Ask, *, pace: Pace | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._pace, self._clock = ask, pace or Pace(), clock
        self._endpoint: Endpoint | None = None
        self._stamp: ModelStamp | None = None
        self._opening, self._answered = Lock(), float("-inf")
        self._estimate, self._limit, self._inputs = Estimate(), TEXT_TOKENS, INPUTS
        self._dims = ask.dims if ask.model in DIMS and ask.dims != DIMS[ask.model] else None

    @property
    def stamp(self) -> ModelStamp:
        """Known after `ready`; the version is the model's name as the endpoint gives it."""
        if self._stamp is None:
            raise EmbedderError(f"{self._ask.whom} was not asked yet: ask `ready` first.", code="embedder_not_ready")
        return self._stamp

    async def ready(self) -> ModelStamp:
        """Ask for the vector of one word, unless there was an answer a moment ago."""
        async with self._opening:
            if self._stamp is None or self._clock() - self._answered > FRESH_SECONDS:
                self._stamp = await self._introduced()
        return self._stamp

    def portions(self, texts: Sequence[str]) -> Sequence[Sequence[str]]:
        """One request each."""
        sizes = [min(self._limit, self._estimate.tokens(text)) for text in texts]
        most = min(self._inputs, max(1, ANSWER_BYTES // (self.stamp.dims * 16 // 3)))
        return [texts[part] for part in split(sizes, most, REQUEST_TOKENS)]

    async def tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """Estimated, by what the endpoint counted so far; at most its limit each."""
        return [min(self._limit, self._estimate.tokens(text)) for text in texts]

    async def embed(self, texts: Sequence[str]) -> Embedding:
        """One row a text, at unit length."""
        refuse_unfit(texts)
        parts = [await self._part(portion) for portion in self.portions(texts)]
        return Embedding(
            np.concatenate([part.vectors for part in parts]) if parts else np.empty((0, self.stamp.dims), np.float32),
            sum(part.tokens for part in parts),
            truncated=sum(part.truncated for part in parts),
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._endpoint is not None:
            await self._endpoint.close()
            self._endpoint = self._stamp = None

    # --- one request -------------------------------------------------------------------------------------------------

    async def _part(self, texts: Sequence[str]) -> Embedding:
        """Texts that fit into one request. What is too long for the endpoint is cut until it is taken."""
        limit = self._limit
        for _ in range(SHRINKS):
            fitted = [self._estimate.cut(text, limit) for text in texts]
            try:
                answer = await self._post(fitted)
            except InputRefused as refused:
                limit = await self._lower(limit, refused, fitted)
                continue
            tokens = sum(map(self._estimate.tokens, fitted)) if answer.tokens is None else answer.tokens
            return Embedding(answer.vectors, tokens, truncated=sum(map(str.__ne__, texts, fitted)))
        raise InputRefused(f"{self._ask.whom} calls this text too long at any length.")

    async def _post(self, texts: Sequence[str]) -> Answer:
        """One request; its answer has the dims that the stamp promises."""
        dims = self.stamp.dims
        try:
            answer = await self._send(texts)
        except (EmbedderUnavailable, InputRefused) as error:
            if error.code == "embedder_timeout" or getattr(error, "too_many", False):
                self._inputs = max(1, min(self._inputs, len(texts)) // 2)
            raise
        if answer.vectors.shape[1] != dims:
            raise self._wrong_dims(answer.vectors.shape[1], dims)
        self._inputs = min(INPUTS, self._inputs + self._inputs // 10 + 1)
        self._estimate.learn(texts, answer.tokens or 0)
        return answer

    async def _send(self, texts: Sequence[str]) -> Answer:
        endpoint = await self._connected()
        answer = await endpoint.post(texts, self._dims, sum(map(self._estimate.tokens, texts)))
        self._answered = self._clock()
        return answer

    async def _connected(self) -> "Endpoint":
        """The endpoint; importing and setting up its client would hold the event loop for most of a second."""
        if self._endpoint is None:
            wire = await to_thread.run_sync(import_module, "app.sync.embedders.wire")
            opened: Endpoint = await to_thread.run_sync(wire.Endpoint, self._ask, self._pace)
            self._endpoint = opened
        return self._endpoint

    async def _lower(self, limit: int, refused: InputRefused, texts: Sequence[str]) -> int:
        """A lower limit of tokens to try with, or the refusal."""
        if refused.limit is not None and SHORTEST_LIMIT <= refused.limit < self._limit:
            self._limit = refused.limit
            return self._limit
        if len(texts) > 1:
            raise refused
        if refused.too_long:
            return min(limit, self._estimate.tokens(texts[0])) // 2
        await self._probed()
        raise refused

    # --- the first word ----------------------------------------------------------------------------------------------

    async def _introduced(self) -> ModelStamp:
        """What one word tells about the model: that it answers, and with how many dims."""
        answer = await self._probed()
        wanted, found = self._ask.dims, answer.vectors.shape[1]
        if wanted not in {None, found} and self._dims is None and self._ask.model not in DIMS:
            self._dims = wanted
            answer = await self._shortened(found)
        if wanted not in {None, answer.vectors.shape[1]}:
            raise self._wrong_dims(answer.vectors.shape[1], wanted)
        alias = f"{self._ask.provider}/{self._ask.model}"
        known = TEXT_TOKENS if self._ask.model in DIMS else None
        return ModelStamp(alias, answer.model or self._ask.model, answer.vectors.shape[1], max_tokens=known)

    async def _shortened(self, native: int) -> Answer:
        """The word again, asking for the declared dims, since the model's own number is another."""
        try:
            return await self._probed()
        except EmbedderError as error:
            self._dims = None
            if error.transient:
                raise
            raise self._wrong_dims(native, self._ask.dims) from None

    async def _probed(self) -> Answer:
        """The vector of one word. Raises a final error when even that is refused: it is not the text's fault."""
        try:
            return await self._send([PROBE])
        except InputRefused as refused:
            asked = f" with {self._dims} dims" if self._dims else ""
            check = f"check recipe.embedder.model ({self._ask.model}) and recipe.embedder.dims."
            raise EmbedderError(
                f"{refused.detail} It refuses any text{asked}: {check}",
                code="wrong_dims" if self._dims else "embedder_refused",
            ) from None

    def _wrong_dims(self, found: int, wanted: int | None) -> EmbedderError:
        what = f"{self._ask.whom} gives {found} dims with the model {self._ask.model}, not {wanted}"
        return EmbedderError(f"{what}: set recipe.embedder.dims to {found}.", code="wrong_dims")
