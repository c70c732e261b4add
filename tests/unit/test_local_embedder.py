"""The local embedder: WordLlama's own vectors, faster, from the wheel and from nowhere else."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import EmbedderError
from app.sync.embedders.local import DIMS, LocalEmbedder, Model, chunks, embedded, load, package_folder, weights

pytestmark = pytest.mark.anyio

SENTENCES = (
    "Breathable running shoe with a mesh upper, sizes 36 to 47",
    "Überzieher für Kinder – wasserdicht, atmungsaktiv",
    "跑步鞋 轻便 透气",
    "  two  leading   and many    inner spaces ",
    "line\none\r\n\ttab </s> <unk> <s> end",
    "emoji 👟🏃‍♀️ and \x00 control \ufffd",
    "▁ the tokeniser's own mark ▁▁ twice",
)


@pytest.fixture(scope="module")
def model() -> Model:
    return load("l2_supercat", None, None)


@pytest.fixture(scope="module")
def own(model: Model):
    """WordLlama as the package offers it."""
    from wordllama import WordLlama

    return WordLlama.load(cache_dir=package_folder(), disable_download=True)


def test_vectors_are_those_of_the_package(model: Model, own) -> None:
    texts = [*SENTENCES, *(" ".join(SENTENCES) * n for n in range(1, 6))]
    vectors, _ = embedded(model, texts)
    assert vectors.dtype == np.float32
    assert np.abs(vectors - own.embed(texts, norm=True)).max() < 1e-6


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=80).filter(str.strip))
def test_any_text_has_the_tokens_of_the_package(model: Model, own, text: str) -> None:
    [tokens] = model.tokens([text])
    assert tokens == own.tokenize([text])[0].ids


@settings(max_examples=150, deadline=None)
@given(text=st.text("ab ▁\n.é<s>/", min_size=1, max_size=40).filter(str.strip))
def test_spaces_and_marks_are_cut_as_the_package_does(model: Model, own, text: str) -> None:
    [tokens] = model.tokens([text])
    assert tokens == own.tokenize([text])[0].ids


ALONE = """
import asyncio, sys

def watch(event, args):
    if event.split(".")[0] == "socket" and event not in {"socket.__new__", "socket.gethostname"}:
        raise SystemExit(f"the local embedder went to the network: {event}")

sys.addaudithook(watch)

from app.config import EmbedderSettings
from app.spec import EmbedderSpec
from app.sync.embedders import open_embedder

async def main():
    embedder = open_embedder(EmbedderSpec(), EmbedderSettings(), offline=True)
    await embedder.ready()
    assert (await embedder.embed(["red shoes", "blue coat"])).vectors.shape == (2, 256)

asyncio.run(main())
print(*sorted({"requests", "urllib3", "openai", "httpx", "httpx2", "wordllama", "torch"} & set(sys.modules)))
"""


def test_no_connection_is_ever_opened() -> None:
    """A process of its own, in which the interpreter reports every connection, name look-up and bind: there is none."""
    alone = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60, check=False)
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout.strip() == "", "nothing that could open one is even imported"


async def test_the_stamp_names_the_weights(model: Model) -> None:
    stamp = await LocalEmbedder().ready()
    assert (stamp.alias, stamp.dims, stamp.normalized, stamp.max_tokens) == ("local/l2_supercat", 256, True, None)
    assert len(stamp.version) == 64


@pytest.mark.parametrize("dims", [64, 128, 256])
async def test_a_vectors_beginning_is_a_vector_too(model: Model, dims: int) -> None:
    embedder = LocalEmbedder(dims=dims)
    assert (await embedder.ready()).dims == dims
    short = (await embedder.embed(SENTENCES)).vectors
    whole = embedded(model, SENTENCES)[0][:, :dims]
    assert np.abs(short - whole / np.linalg.norm(whole, axis=1, keepdims=True)).max() < 1e-6


@pytest.mark.parametrize("dims", [100, 512, 1024, 1])
async def test_other_dims_are_refused_with_those_that_there_are(dims: int) -> None:
    with pytest.raises(EmbedderError, match="64, 128, 256") as refusal:
        await LocalEmbedder(dims=dims).ready()
    assert refusal.value.code == "wrong_dims"


async def test_another_model_is_refused() -> None:
    with pytest.raises(EmbedderError, match="l2_supercat") as refusal:
        await LocalEmbedder("../../etc/passwd").ready()
    assert refusal.value.code == "unknown_model"


def test_the_smallest_file_that_holds_the_dims_is_taken(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    for width in (128, 512):
        (tmp_path / "weights" / f"m_{width}.safetensors").touch()
    found = [weights(tmp_path, "m", dims) for dims in (None, 64, 128, 512)]
    assert [(path.stem, dims) for path, dims in found] == [
        ("m_512", 256),
        ("m_128", 64),
        ("m_128", 128),
        ("m_512", 512),
    ]
    assert set(DIMS) >= {64, 128, 256, 512}


def test_chunks_keep_the_order_and_stay_small() -> None:
    texts = [*["x" * 1_000] * 300, "y" * 1_000_000, *["z"] * 600]
    parts = list(chunks(texts))
    assert [text for part in parts for text in part] == texts
    assert all(len(part) <= 256 and (len(part) == 1 or sum(map(len, part)) <= 100_000) for part in parts)
    assert list(chunks([])) == []


async def test_the_event_loop_turns_while_it_works() -> None:
    """The longest time between two turns of the loop, while two megabytes of text are embedded.

    A busy machine may keep the loop waiting too, but not each time.
    """
    embedder = LocalEmbedder()
    await embedder.ready()
    longest: list[float] = []
    while len(longest) < 5 and min(longest, default=1.0) >= 0.1:
        gaps = await gaps_while_embedding(embedder)
        assert len(gaps) > 20
        longest.append(sorted(gaps)[-2])
    assert min(longest) < 0.1, longest


async def gaps_while_embedding(embedder: LocalEmbedder) -> list[float]:
    """Seconds between the turns of the loop."""
    gaps: list[float] = []
    over = threading.Event()

    async def turning() -> None:
        last = time.perf_counter()
        while not over.is_set():
            await anyio.sleep(0.001)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    async with anyio.create_task_group() as group:
        group.start_soon(turning)
        await embedder.embed([(" ".join(SENTENCES) * 4)[:1260] + str(number) for number in range(1600)])
        over.set()
    return gaps


async def test_embedding_before_it_is_loaded_says_so() -> None:
    with pytest.raises(EmbedderError, match="ready"):
        await LocalEmbedder().embed(["x"])
