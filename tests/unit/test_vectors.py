"""Batches get vectors: equal texts once, culprits as rejects, retries counted, final errors passed on."""

from collections.abc import Sequence
from hashlib import sha256

import anyio
import numpy as np
import pytest

from app.errors import EmbedderBusy, EmbedderError, EmbedderUnavailable, Problem
from app.sync.embedders.hashing import HashingEmbedder, hashed
from app.sync.engines.memory_store import MemoryStore
from app.sync.fit import no_vector
from app.sync.limits import Limits, Patience
from app.sync.tally import Tally
from app.sync.vectors import Vectorizer, content_key
from app.sync.words import Batch, Document, Embedding, ModelStamp, Reject, Slice

pytestmark = pytest.mark.anyio


class Told(HashingEmbedder):
    """The hashing embedder that notes what it is asked, fails as told (None: not now), and refuses *cursed* texts."""

    def __init__(self, *failures: Problem | None, portion: int = 1000) -> None:
        super().__init__()
        self.asked: list[Sequence[str]] = []
        self._failures, self._portion = list(failures), portion
        self.busiest = self._busy = 0

    def portions(self, texts: Sequence[str]) -> Sequence[Sequence[str]]:
        return [texts[start : start + self._portion] for start in range(0, len(texts), self._portion)]

    async def embed(self, texts: Sequence[str]) -> Embedding:
        self.asked.append(list(texts))
        self._busy += 1
        self.busiest = max(self.busiest, self._busy)
        await anyio.lowlevel.checkpoint()
        self._busy -= 1
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure
        if any("cursed" in text for text in texts):
            raise no_vector("The model refuses this.")
        return await super().embed(texts)


async def at_once(wait: float) -> None:
    assert wait >= 0


def limits(hands: int = 2) -> Limits:
    return Limits(
        embedding=anyio.Semaphore(hands), bulk=anyio.Semaphore(1), patience=Patience(attempts=3, sleep=at_once)
    )


def tally() -> Tally:
    counts = Tally()
    counts.enter("filling")
    return counts


def hashed_text(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def batch(*texts: str) -> Batch:
    documents = [Document(str(number), {}, text, hashed_text(text), "", "") for number, text in enumerate(texts)]
    return Batch(Slice(0, 1), len(texts), documents, [Reject("x", "rule", "excluded", "")], 10)


async def test_each_document_gets_the_vector_of_its_text() -> None:
    texts = ["red shoe", "blue coat", "red shoe", "green hat"]
    counts = tally()
    done = await Vectorizer(HashingEmbedder(), MemoryStore(), limits(), counts)(batch(*texts))
    assert np.array_equal(done.vectors, hashed(texts, 64))
    assert [document.id for document in done.documents] == ["0", "1", "2", "3"]
    assert counts.view()["counts"]["embedded"] == 3
    assert counts.tokens == 6


async def test_equal_texts_are_asked_once_in_portions() -> None:
    embedder = Told(portion=2)
    await Vectorizer(embedder, MemoryStore(), limits(), tally())(batch("a", "b", "a", "c", "b", "d", "e"))
    assert embedder.asked == [["a", "b"], ["c", "d"], ["e"]]


async def test_culprits_become_rejects_and_the_others_stay() -> None:
    texts = ["a", "cursed one", "b", " \n", "c", "\ud800", "d", "cursed one", "e"]
    embedder, counts = Told(), tally()
    done = await Vectorizer(embedder, MemoryStore(), limits(), counts)(batch(*texts))
    assert [document.text for document in done.documents] == ["a", "b", "c", "d", "e"]
    assert np.array_equal(done.vectors, hashed(["a", "b", "c", "d", "e"], 64))
    found = [(reject.product_id, reject.by, reject.code) for reject in done.rejects]
    assert found == [("x", "rule", "excluded"), *((name, "data", "no_vector") for name in ("1", "3", "5", "7"))]
    assert done.rejects[1].detail == "The model refuses this."
    assert counts.view()["counts"]["rejected"] == 4
    assert counts.view()["counts"]["embedded"] == 5


@pytest.mark.parametrize("texts", [(), ("", " "), ("cursed",)])
async def test_a_batch_may_end_empty(texts: Sequence[str]) -> None:
    done = await Vectorizer(Told(), MemoryStore(), limits(), tally())(batch(*texts))
    assert done.vectors is not None
    assert (done.documents, done.vectors.shape) == ([], (0, 64))
    assert len(done.rejects) == 1 + len(texts)


async def test_transient_errors_are_tried_again_and_counted() -> None:
    embedder, counts = Told(EmbedderUnavailable(), EmbedderBusy(), EmbedderBusy()), tally()
    done = await Vectorizer(embedder, MemoryStore(), limits(), counts)(batch("a", "b"))
    assert len(done.documents) == 2
    [filling] = counts.view()["stages"]
    assert (filling["steps"]["embed"]["retries"], filling["errors"]["embedder"]) == (3, 3)
    assert counts.view()["counts"]["embedded"] == 2


async def test_only_the_failed_portion_is_asked_again() -> None:
    embedder = Told(None, EmbedderUnavailable(), portion=2)
    await Vectorizer(embedder, MemoryStore(), limits(), tally())(batch("a", "b", "c", "d"))
    assert embedder.asked == [["a", "b"], ["c", "d"], ["c", "d"]]


@pytest.mark.parametrize("error", [EmbedderError("quota", code="insufficient_quota"), EmbedderUnavailable("down")])
async def test_other_errors_end_the_run(error: Problem) -> None:
    with pytest.raises(EmbedderError) as end:
        await Vectorizer(Told(*[error] * 5), MemoryStore(), limits(), tally())(batch("a", "b"))
    assert end.value is error


async def test_all_batches_together_stay_within_the_limit() -> None:
    embedder, shared = Told(), limits(hands=2)
    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(Vectorizer(embedder, MemoryStore(), shared, tally()), batch(f"text {number}"))
    assert embedder.busiest == 2
    assert shared.embedding.value == 2


# --- kept ------------------------------------------------------------------------------------------------------------


async def test_what_was_kept_is_never_asked_again() -> None:
    embedder, store, counts = Told(), MemoryStore(), tally()
    await Vectorizer(embedder, store, limits(), counts)(batch("a", "b"))
    done = await Vectorizer(embedder, store, limits(), counts)(batch("b", "c", "a"))
    assert embedder.asked == [["a", "b"], ["c"]]
    assert np.array_equal(done.vectors, hashed(["b", "c", "a"], 64))
    assert counts.view()["counts"]["reused"] == 2


async def test_a_text_that_another_batch_has_in_hand_is_waited_for() -> None:
    embedder, counts = Told(), tally()
    vectorize = Vectorizer(embedder, MemoryStore(), limits(hands=4), counts)
    done: dict[str, Batch] = {}

    async def run(*texts: str) -> None:
        done[texts[-1]] = await vectorize(batch(*texts))

    async with anyio.create_task_group() as group:
        for last in ("x", "y", "z"):
            group.start_soon(run, "a", "b", last)
    assert sorted(text for asked in embedder.asked for text in asked) == ["a", "b", "x", "y", "z"]
    for last, one in done.items():
        assert np.array_equal(one.vectors, hashed(["a", "b", last], 64))


async def test_a_vector_is_kept_before_the_batch_goes_on() -> None:
    store, embedder = MemoryStore(), Told(None, EmbedderError("quota", code="insufficient_quota"), portion=1)
    with pytest.raises(EmbedderError):
        await Vectorizer(embedder, store, limits(), tally())(batch("a", "b"))
    assert list(store.kept) == [content_key(hashed_text("a"), Told().stamp)]


def test_a_key_tells_texts_and_models_apart() -> None:
    stamp = ModelStamp("m", "1", 8)
    others = [ModelStamp("n", "1", 8), ModelStamp("m", "2", 8), ModelStamp("m", "1", 9), ModelStamp("m", "1", 8, False)]
    keys = {content_key("a", stamp), content_key("b", stamp), *(content_key("a", other) for other in others)}
    assert len(keys) == 6
