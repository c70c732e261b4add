"""One contract for every embedder: the hashing one, the local one, and an endpoint behind real HTTP."""

from collections.abc import AsyncIterator

import numpy as np
import pytest

from app.config import EmbedderSettings
from app.errors import EmbedderError
from app.spec import EmbedderSpec
from app.sync.embedders import open_embedder
from app.sync.ports import Embedder
from tests.embedding_server import EmbeddingServer

pytestmark = pytest.mark.anyio

TEXTS = ["red running shoes", "a blue winter coat for children", "red shoes", "Überzieher", "跑步鞋 轻便"]


@pytest.fixture(params=["hashing", "local", "openai", "compatible"])
async def embedder(request: pytest.FixtureRequest) -> AsyncIterator[Embedder]:
    provider = request.param
    with EmbeddingServer() as server:
        settings = EmbedderSettings(url=server.url, api_key="sk-very-secret")
        model = {"openai": "text-embedding-3-small", "compatible": "some/model"}.get(provider)
        dims = 128 if provider == "openai" else None
        opened = open_embedder(EmbedderSpec(provider=provider, model=model, dims=dims), settings, offline=True)
        await opened.ready()
        yield opened
        await opened.close()


async def test_a_row_for_each_text_at_unit_length(embedder: Embedder) -> None:
    embedding = await embedder.embed(TEXTS)
    assert embedding.vectors.shape == (len(TEXTS), embedder.stamp.dims)
    assert embedding.vectors.dtype == np.float32
    assert np.isfinite(embedding.vectors).all()
    assert np.abs(np.linalg.norm(embedding.vectors, axis=1) - 1).max() < 1e-3
    assert embedding.tokens >= len(TEXTS)
    assert (embedding.retries, embedding.truncated) == (0, 0)


async def test_rows_are_in_the_order_of_the_texts(embedder: Embedder) -> None:
    forward = (await embedder.embed(TEXTS)).vectors
    backward = (await embedder.embed(TEXTS[::-1])).vectors
    assert np.allclose(forward, backward[::-1], atol=1e-6)
    assert not np.allclose(forward[0], forward[1], atol=1e-2)


async def test_a_text_has_one_vector_whoever_stands_beside_it(embedder: Embedder) -> None:
    alone = (await embedder.embed(TEXTS[:1])).vectors[0]
    among = (await embedder.embed([TEXTS[1], "word " * 3000, TEXTS[0]])).vectors[2]
    assert np.allclose(alone, among, atol=1e-6)


async def test_texts_that_share_words_are_nearer(embedder: Embedder) -> None:
    vectors = (await embedder.embed(TEXTS)).vectors
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[1]


async def test_the_stamp_is_the_same_each_time_and_names_the_model(embedder: Embedder) -> None:
    stamp = embedder.stamp
    assert stamp == await embedder.ready()
    assert stamp.alias
    assert stamp.version
    assert stamp.dims == (await embedder.embed(["x"])).vectors.shape[1]


@pytest.mark.parametrize("unfit", ["", "  \n\t", "\ud800"])
async def test_a_text_that_cannot_have_a_vector_is_refused_as_that(embedder: Embedder, unfit: str) -> None:
    with pytest.raises(EmbedderError) as refusal:
        await embedder.embed(["good", unfit])
    assert refusal.value.code == "no_vector"
    assert not refusal.value.transient


async def test_no_texts_are_no_rows(embedder: Embedder) -> None:
    assert (await embedder.embed([])).vectors.shape == (0, embedder.stamp.dims)
    assert list(embedder.portions([])) == []


async def test_portions_are_the_texts_in_order(embedder: Embedder) -> None:
    texts = [f"text {number}" for number in range(5000)]
    assert [text for portion in embedder.portions(texts) for text in portion] == texts


async def test_closing_twice_is_harmless(embedder: Embedder) -> None:
    await embedder.close()
    await embedder.close()
