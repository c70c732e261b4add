"""A batch without vectors becomes one with them, and no text is embedded twice.

        texts ─▶ content keys ─▶ [store: known?] ─▶ not known ─▶ [embedder] ─▶ [store: keep] ─▶ vectors
                                      └── known ───────────────────────────────────────────────▲

A vector is known by its content: the text's hash and the model that made it. It is kept as soon as the model has
answered, before any document with it is loaded: what was paid for survives whatever happens to the run. Equal texts
of a batch are one, and a text that another batch has in hand is waited for.

Texts go out in portions of one request each, every request under the semaphore that all runs of the process share (it
is free while a portion waits for its next try). A text that cannot have a vector leaves the batch as a reject: where
an embedder refuses a portion for the sake of its content, the portion is halved until the culprit stands alone. Any
other final error ends the run.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
from anyio import CancelScope, Event, move_on_after
from anyio.to_thread import run_sync

from app.errors import EmbedderError, Problem
from app.sync.engine_port import VectorStore
from app.sync.fit import NO_VECTOR, encodable
from app.sync.limits import Limits, ignore, retrying
from app.sync.ports import Embedder
from app.sync.words import Batch, Document, Embedding, ModelStamp, Reject, Vectors

KEEP_SECONDS = 2.0
"""How long a cancel waits for vectors that are being kept: with what is closed and dropped after it, it is over within
ten seconds also where an engine answers nothing any more."""

Keyed = dict[str, str]
"""Texts by their content keys."""


def content_key(text_hash: str, stamp: ModelStamp) -> str:
    """What a vector is known by: SHA-256 in hexadecimal of the text's hash and the model that made it."""
    told = f"{text_hash} {stamp.alias} {stamp.version} {stamp.dims} {stamp.normalized}"
    return sha256(told.encode(errors="surrogatepass")).hexdigest()


class Figures(Protocol):
    """Who counts: the run's tally."""

    def timed(self, name: str) -> AbstractContextManager[Any]:
        """Seconds of a step."""

    def retried(self, step: str) -> Callable[[Problem], None]:
        """To be told of each retry."""

    def embedded(self, count: int, tokens: int) -> None:
        """*count* texts were embedded."""

    def add(self, **counts: int) -> None:
        """Add to the run's counts."""

    def left_out(self, rejects: Any) -> None:
        """Rejects were found."""


@dataclass(slots=True)
class Found:
    """What became of the texts of one batch: a row each, or why there is none."""

    rows: list[Vectors] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def take(self, texts: Sequence[str], vectors: Vectors) -> None:
        """These texts have these vectors."""
        self.places.update({text: len(self.places) + number for number, text in enumerate(texts)})
        self.rows.append(vectors)


class Vectorizer:
    """Finds or makes the vectors of batches; *tally* counts. One serves all batches of a run."""

    def __init__(self, embedder: Embedder, store: VectorStore, limits: Limits, tally: Figures) -> None:
        self._embedder, self._store, self._limits, self._tally = embedder, store, limits, tally
        self._in_hand: dict[str, Event] = {}

    async def __call__(self, batch: Batch) -> Batch:
        """*batch* with a vector for each of its documents, those without one moved to its rejects."""
        found = Found()
        wanted = keyed(fit(batch.documents, found), self._embedder.stamp)
        while wanted := await self._recall(wanted, found):
            wanted = await self._make(wanted, found)
        rejects = [reject(document, found) for document in batch.documents if document.text in found.refused]
        self._tally.left_out(rejects)
        documents = [document for document in batch.documents if document.text in found.places]
        vectors = await run_sync(gathered, documents, found, self._embedder.stamp.dims)
        return replace(batch, documents=documents, vectors=vectors, rejects=[*batch.rejects, *rejects])

    async def _recall(self, wanted: Keyed, found: Found) -> Keyed:
        """Take what the store knows; what is *wanted* still."""
        if not wanted:
            return {}
        keys = list(wanted)
        with self._tally.timed("recall"):
            known = await self._store.known(keys, self._embedder.stamp.dims)
        if known:
            found.take([wanted[key] for key in known], np.stack(list(known.values())))
            self._tally.add(reused=len(known))
        return {key: text for key, text in wanted.items() if key not in known}

    async def _make(self, wanted: Keyed, found: Found) -> Keyed:
        """Embed those that nobody has in hand; what is left is in the store, or another's, once this returns."""
        mine = {key: text for key, text in wanted.items() if key not in self._in_hand}
        if not mine:
            await self._in_hand[next(iter(wanted))].wait()
            return wanted
        keys = {text: key for key, text in mine.items()}
        with self._holding(mine):
            for portion in self._embedder.portions(list(mine.values())):
                await self._embed(portion, keys, found)
        return {key: text for key, text in wanted.items() if key not in mine}

    @contextmanager
    def _holding(self, keys: Mapping[str, str]) -> Iterator[None]:
        done = Event()
        self._in_hand.update(dict.fromkeys(keys, done))
        try:
            yield
        finally:
            for key in keys:
                del self._in_hand[key]
            done.set()

    async def _embed(self, texts: Sequence[str], keys: Mapping[str, str], found: Found) -> None:
        try:
            embedding = await asked(self._timed, texts, self._limits, self._tally.retried("embed"))
        except EmbedderError as error:
            if error.code != NO_VECTOR:
                raise
            await self._halve(texts, keys, found, error)
            return
        self._tally.embedded(len(texts), embedding.tokens)
        self._tally.add(truncated=embedding.truncated)
        await self._keep([keys[text] for text in texts], embedding.vectors)
        found.take(texts, embedding.vectors)

    async def _keep(self, keys: Sequence[str], vectors: Vectors) -> None:
        """Keep what was paid for, also when the run is being canceled, unless that takes too long."""
        with self._tally.timed("keep"):
            with CancelScope(shield=True), move_on_after(KEEP_SECONDS) as late:
                await self._store.keep(keys, vectors)
            if late.cancelled_caught:
                await self._store.keep(keys, vectors)

    async def _halve(self, texts: Sequence[str], keys: Mapping[str, str], found: Found, error: EmbedderError) -> None:
        """One of *texts* has no vector: which one?"""
        if len(texts) == 1:
            found.refused[texts[0]] = error.detail
            return
        half = len(texts) // 2
        await self._embed(texts[:half], keys, found)
        await self._embed(texts[half:], keys, found)

    async def _timed(self, texts: Sequence[str]) -> Embedding:
        with self._tally.timed("embed"):
            return await self._embedder.embed(texts)


async def asked(
    embed: Callable[[Sequence[str]], Awaitable[Embedding]],
    texts: Sequence[str],
    limits: Limits,
    on_retry: Callable[[Problem], None] = ignore,
) -> Embedding:
    """What a model answers to *texts*, patiently, under the semaphore that all runs of the process share."""

    async def once() -> Embedding:
        async with limits.embedding:
            return await embed(texts)

    return await retrying(
        once,
        deadline=limits.stall_deadline,
        on_retry=on_retry,
        budget=limits.embedding_budget,
        patience=limits.patience,
    )


def keyed(hashes: Mapping[str, str], stamp: ModelStamp) -> Keyed:
    """Texts with their hashes, by content key."""
    return {content_key(text_hash, stamp): text for text, text_hash in hashes.items()}


def fit(documents: Sequence[Document], found: Found) -> Mapping[str, str]:
    """The different texts of *documents* with their hashes, but for those that no embedder needs to be asked about."""
    texts = {document.text: document.text_hash for document in documents}
    found.refused.update({text: "The text to embed is blank." for text in texts if not text.strip()})
    found.refused.update({text: "The text to embed is no Unicode text." for text in texts if not encodable(text)})
    return {text: text_hash for text, text_hash in texts.items() if text not in found.refused}


def reject(document: Document, found: Found) -> Reject:
    """Why *document* was left out."""
    return Reject(document.id, "data", NO_VECTOR, found.refused[document.text])


def gathered(documents: Sequence[Document], found: Found, dims: int) -> Vectors:
    """The vector of each document as one array. CPU only."""
    if not documents:
        return np.empty((0, dims), np.float32)
    rows = np.concatenate(found.rows) if len(found.rows) > 1 else found.rows[0]
    places = [found.places[document.text] for document in documents]
    return rows if places == list(range(len(rows))) else rows[places]
