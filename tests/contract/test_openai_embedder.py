"""An endpoint that speaks OpenAI's protocol, on good days and bad ones; over real HTTP on the loopback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest

from app.config import EmbedderSettings
from app.errors import EmbedderBusy, EmbedderError, EmbedderUnavailable
from app.spec import EmbedderSpec
from app.sync.embedders import open_embedder
from app.sync.embedders.asking import Ask
from app.sync.embedders.hashing import hashed
from app.sync.embedders.openai import OpenAIEmbedder
from app.sync.pacing import Pace
from tests.embedding_server import EmbeddingServer

pytestmark = pytest.mark.anyio

KEY = "sk-very-secret"


@asynccontextmanager
async def asking(server: EmbeddingServer, **ask: object) -> AsyncIterator[OpenAIEmbedder]:
    """An embedder that asks *server*, closed at the end."""
    fixed = {"provider": "openai", "model": "some-model", "url": server.url, "key": KEY, "timeout": 5, "local": True}
    embedder = OpenAIEmbedder(Ask(**{**fixed, **ask}))
    try:
        yield embedder
    finally:
        await embedder.close()


def opened(spec: dict, settings: dict, offline: bool = False):
    return open_embedder(EmbedderSpec(provider="openai", **spec), EmbedderSettings(**settings), offline=offline)


# --- good days -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["ok", "shuffled", "lists", "plain"])
async def test_every_honest_shape_of_an_answer_is_read(shape: str) -> None:
    texts = [f"text number {number}" for number in range(20)]
    with EmbeddingServer() as server:
        async with asking(server) as embedder:
            await embedder.ready()
            server.plan(shape)
            embedding = await embedder.embed(texts)
    assert np.array_equal(embedding.vectors, hashed(texts, 64))
    assert embedding.tokens >= 60


async def test_requests_stay_within_2048_texts() -> None:
    texts = [f"t{number}" for number in range(5000)]
    with EmbeddingServer(dims=8) as server:
        async with asking(server) as embedder:
            await embedder.ready()
            embedding = await embedder.embed(texts)
        sizes = [len(call.texts) for call in server.calls[1:]]
    assert sizes == [2048, 2048, 904]
    assert np.array_equal(embedding.vectors, hashed(texts, 8))


async def test_requests_stay_within_300_000_tokens_by_estimate() -> None:
    texts = [f"{number} " + "words and more words " * 1000 for number in range(100)]
    with EmbeddingServer(dims=8) as server:
        async with asking(server) as embedder:
            await embedder.ready()
            assert len(embedder.portions(texts)) > 1
            await embedder.embed(texts[:60])
        assert all(sum(len(text) for text in call.texts) / 4 < 300_000 for call in server.calls)


async def test_a_text_over_8192_tokens_is_cut_at_a_word_and_counted() -> None:
    with EmbeddingServer() as server:
        async with asking(server) as embedder:
            await embedder.ready()
            embedding = await embedder.embed(["short", "word " * 20_000, "跑" * 30_000])
        short, long, unbroken = server.calls[-1].texts
    assert embedding.truncated == 2
    assert (short, long.endswith("word"), set(unbroken)) == ("short", True, {"跑"})
    assert len(long) < 8192 * 4
    assert len(unbroken) < 8192 * 2


async def test_a_shorter_limit_is_learnt_from_the_refusal() -> None:
    with EmbeddingServer(max_tokens=512) as server:
        async with asking(server) as embedder:
            await embedder.ready()
            embedding = await embedder.embed(["short", "word " * 3000])
            calls = len(server.calls)
            await embedder.embed(["other " * 3000])
            assert len(server.calls) == calls + 1
    assert embedding.truncated == 1


async def test_smaller_batches_are_learnt_from_the_refusal() -> None:
    with EmbeddingServer(max_inputs=32) as server:
        async with asking(server) as embedder:
            await embedder.ready()
            texts = [f"text {number}" for number in range(64)]
            with pytest.raises(EmbedderError) as refusal:
                await embedder.embed(texts)
            assert refusal.value.code == "no_vector"
            assert [len(portion) for portion in embedder.portions(texts)] == [32, 32]
            assert (await embedder.embed(texts)).vectors.shape == (64, 64)


async def test_a_poisoned_text_alone_is_told_from_an_endpoint_that_refuses_all() -> None:
    with EmbeddingServer(poison="cursed") as server:
        async with asking(server) as embedder:
            await embedder.ready()
            with pytest.raises(EmbedderError) as refusal:
                await embedder.embed(["cursed"])
            assert refusal.value.code == "no_vector"
            server.always("400")
            with pytest.raises(EmbedderError, match="any text") as refusal:
                await embedder.embed(["innocent"])
            assert refusal.value.code == "embedder_refused"


# --- the first word --------------------------------------------------------------------------------------------------


async def test_dims_are_what_comes_back() -> None:
    with EmbeddingServer(dims=48) as server:
        async with asking(server) as embedder:
            stamp = await embedder.ready()
        assert (stamp.alias, stamp.version, stamp.dims) == ("openai/some-model", "some-model", 48)
        assert server.calls[0].dimensions is None


async def test_dimensions_are_sent_only_where_they_differ() -> None:
    with EmbeddingServer(dims=1536) as server:
        async with asking(server, model="text-embedding-3-small", dims=1536) as embedder:
            await embedder.ready()
        async with asking(server, model="text-embedding-3-small", dims=256) as embedder:
            assert (await embedder.ready()).dims == 256
        async with asking(server, model="another", dims=100) as embedder:
            assert (await embedder.ready()).dims == 100
            await embedder.embed(["x"])
        assert [call.dimensions for call in server.calls] == [None, 256, None, 100, 100]


@pytest.mark.parametrize("model", ["another", "text-embedding-3-small"])
async def test_dims_that_the_model_does_not_give_are_refused_clearly(model: str) -> None:
    with EmbeddingServer(dims=48, fixed_dims=True) as server:
        async with asking(server, model=model, dims=100) as embedder:
            with pytest.raises(EmbedderError, match=r"recipe\.embedder\.dims to 48") as refusal:
                await embedder.ready()
    assert (refusal.value.code, refusal.value.transient) == ("wrong_dims", False)


async def test_a_fresh_answer_is_proof_enough() -> None:
    now = 0.0
    with EmbeddingServer() as server:
        ask = Ask("openai", "some-model", server.url, local=True)
        embedder = OpenAIEmbedder(ask, clock=lambda: now)
        await embedder.ready()
        now = 20.0
        await embedder.ready()
        await embedder.embed(["x"])
        now = 45.0
        await embedder.ready()
        assert len(server.calls) == 2
        now = 100.0
        server.plan("500")
        with pytest.raises(EmbedderUnavailable):
            await embedder.ready()
        await embedder.close()


# --- bad days --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code", "hint"),
    [
        ("quota", "insufficient_quota", "billing"),
        ("401", "embedder_unauthorized", "RESHELVE_EMBEDDERS__OPENAI__API_KEY"),
        ("403", "embedder_forbidden", "rights"),
        ("404", "unknown_model", "recipe.embedder.model"),
        ("redirect", "embedder_moved", "RESHELVE_EMBEDDERS__OPENAI__URL"),
        ("dims", "wrong_dims", "recipe.embedder.dims"),
    ],
)
async def test_what_somebody_must_change_is_final_and_says_what(fault: str, code: str, hint: str) -> None:
    with EmbeddingServer() as server:
        async with asking(server) as embedder:
            await embedder.ready()
            server.plan(fault)
            with pytest.raises(EmbedderError) as refusal:
                await embedder.embed(["a secret text"])
            assert len(server.calls) == 2
    error = refusal.value
    assert (error.code, error.transient) == (code, False)
    assert hint in error.detail
    assert error.__cause__ is None
    assert "secret" not in f"{error.detail}{error.extra}{error.errors}"


@pytest.mark.parametrize("fault", ["500", "503", "drop", "few", "many", "nan", "zero", "garbage", "not_json", "twice"])
async def test_what_may_pass_is_transient_and_asked_once(fault: str) -> None:
    with EmbeddingServer() as server:
        async with asking(server) as embedder:
            await embedder.ready()
            server.plan(fault)
            with pytest.raises(EmbedderUnavailable) as failure:
                await embedder.embed(["one", "two", "three"])
            assert len(server.calls) == 2
            assert (await embedder.embed(["one", "two", "three"])).vectors.shape == (3, 64)
    assert KEY not in failure.value.detail


async def test_a_429_says_when_to_come_back_and_all_keep_quiet() -> None:
    slept: list[float] = []

    async def sleep(wait: float) -> None:
        slept.append(wait)

    with EmbeddingServer(retry_after="7") as server:
        ask = Ask("openai", "some-model", server.url, local=True)
        embedder = OpenAIEmbedder(ask, pace=Pace(lambda: 0.0, sleep))
        await embedder.ready()
        server.plan("429")
        with pytest.raises(EmbedderBusy) as busy:
            await embedder.embed(["x"])
        await embedder.embed(["x"])
        await embedder.close()
    assert busy.value.extra["retry_after"] == 7
    assert slept == [7]


async def test_rate_limit_headers_are_obeyed() -> None:
    slept: list[float] = []

    async def sleep(wait: float) -> None:
        slept.append(wait)

    words = {"limit": "3000", "remaining": "0", "reset": "1m0s"}
    with EmbeddingServer(headers={f"x-ratelimit-{word}-requests": value for word, value in words.items()}) as server:
        embedder = OpenAIEmbedder(Ask("openai", "some-model", server.url, local=True), pace=Pace(lambda: 0.0, sleep))
        await embedder.ready()
        await embedder.embed(["x"])
        await embedder.close()
    assert slept == [pytest.approx(0.02)]


@pytest.mark.parametrize("fault", ["hang", "slow"])
async def test_a_call_without_an_answer_is_cut(fault: str) -> None:
    with EmbeddingServer(delay=30) as server:
        async with asking(server, timeout=0.3) as embedder:
            server.always(fault)
            with anyio.fail_after(5), pytest.raises(EmbedderUnavailable) as failure:
                await embedder.ready()
    assert failure.value.code == "embedder_timeout"


async def test_a_call_that_is_cancelled_ends() -> None:
    with EmbeddingServer() as server:
        async with asking(server, timeout=60) as embedder:
            await embedder.ready()
            server.always("hang")
            with anyio.fail_after(5):
                async with anyio.create_task_group() as group:
                    group.start_soon(embedder.embed, ["x"])
                    await anyio.to_thread.run_sync(server.wait, 2)
                    group.cancel_scope.cancel()


async def test_nobody_there_is_transient() -> None:
    with EmbeddingServer() as server:
        url = server.url
    embedder = OpenAIEmbedder(Ask("openai", "some-model", url, local=True))
    with pytest.raises(EmbedderUnavailable, match="cannot be reached"):
        await embedder.ready()
    await embedder.close()


# --- whom the key is for ---------------------------------------------------------------------------------------------


async def test_the_key_goes_to_its_own_address_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "sk-from-the-environment")
    with EmbeddingServer() as own, EmbeddingServer() as other:
        settings = {"url": own.url, "api_key": KEY, "allow_urls": [other.url + "/"]}
        for spec in ({"model": "m"}, {"model": "m", "base_url": other.url}):
            embedder = opened(spec, settings, offline=True)
            await embedder.ready()
            await embedder.close()
        assert own.calls[0].headers["authorization"] == f"Bearer {KEY}"
        assert "authorization" not in other.calls[0].headers
        assert "sk-" not in str(other.calls[0].headers)


@pytest.mark.parametrize(
    ("spec", "settings", "offline", "code"),
    [
        ({"base_url": "http://127.0.0.1:1/v1"}, {}, False, "embedder_not_allowed"),
        ({}, {}, True, "offline"),
        ({}, {"api_key": None}, False, "embedder_no_key"),
        ({}, {"url": "http://192.0.2.1/v1"}, True, "offline"),
        ({}, {"url": "http://127.0.0.1.example.org/v1"}, True, "offline"),
        ({}, {"url": "http://user:secret@127.0.0.1/v1"}, True, "embedder_no_url"),
        ({}, {"url": "ftp://127.0.0.1/v1"}, True, "embedder_no_url"),
    ],
)
def test_an_address_that_may_not_be_asked_is_refused(spec: dict, settings: dict, offline: bool, code: str) -> None:
    with pytest.raises(EmbedderError) as refusal:
        opened(spec, {"api_key": KEY, **settings}, offline)
    assert refusal.value.code == code
    assert "secret" not in refusal.value.detail


def test_another_provider_needs_an_address_and_a_model() -> None:
    for settings, hint in (
        ({}, "RESHELVE_EMBEDDERS__MINE__URL"),
        ({"url": "http://127.0.0.1/v1"}, "recipe.embedder.model"),
    ):
        with pytest.raises(EmbedderError, match=hint):
            open_embedder(EmbedderSpec(provider="mine"), EmbedderSettings(**settings), offline=True)
