"""The local embedder: WordLlama's table of token vectors, read from its own wheel. It never opens a connection.

A text becomes tokens, its vector is the mean of their rows at unit length. The package's own `embed` pads each text
to the longest of its batch and gathers rows for the padding too; here the tokens of a chunk become one sparse matrix
of counts, which times the table is the same sums at a fraction of the work. The model has no limit of tokens.

The files are read directly rather than by importing the package, which would bring an HTTP client with it, set up the
root logger, and look for missing weights on the network.

Work is done in threads, a chunk of some ten milliseconds at a time; tokenising and multiplying let go of the
interpreter, so the event loop turns on, and a cancel is heard between chunks.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from anyio import to_thread

from app.errors import EmbedderError
from app.sync.fit import no_vector, refuse_unfit, unit
from app.sync.words import Embedding, ModelStamp, Vectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODEL = "l2_supercat"
"""The model whose weights lie in the wheel."""

DIMS = (64, 128, 256, 512, 1024)
"""Matryoshka: a vector's beginning is a vector too, at these lengths, up to the width of the weights."""

DEFAULT_DIMS = 256

CHUNK_CHARS = 100_000
CHUNK_TEXTS = 256
"""A chunk is about 10 to 25 ms of work on one core: 1,260 characters take about 0.2 ms."""


@dataclass(frozen=True)
class Model:
    """A tokeniser, a table of shape (tokens, dims), and the digest of the file the table came from."""

    tokenizer: "Tokenizer"
    table: Vectors
    digest: str
    sparse: Any

    def tokens(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        """Token numbers of each text, without special tokens or padding."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def vectors(self, texts: Sequence[str]) -> tuple[Vectors, int]:
        """The sum of the token vectors of each text (which points where their mean does), and how many tokens."""
        tokens = self.tokens(texts)
        ends = np.zeros(len(tokens) + 1, np.int32)
        np.cumsum([len(numbers) for numbers in tokens], out=ends[1:])
        total = int(ends[-1])
        numbers = np.fromiter(chain.from_iterable(tokens), np.int32, total)
        np.minimum(numbers, len(self.table) - 1, out=numbers)
        shape = (len(tokens), len(self.table))
        return self.sparse.csr_array((np.ones(total, np.float32), numbers, ends), shape=shape) @ self.table, total


class LocalEmbedder:
    """WordLlama from its wheel."""

    def __init__(self, model: str | None = None, dims: int | None = None, folder: Path | None = None) -> None:
        self._name, self._dims, self._folder = model or MODEL, dims, folder
        self._model: Model | None = None

    @property
    def stamp(self) -> ModelStamp:
        """Known after `ready`; the version is the digest of the weights."""
        model = self._loaded()
        return ModelStamp(f"local/{self._name}", model.digest, model.table.shape[1])

    async def ready(self) -> ModelStamp:
        """Load the model once, in a thread (under a second)."""
        if self._model is None:
            self._model = await to_thread.run_sync(load, self._name, self._dims, self._folder)
        return self.stamp

    def portions(self, texts: Sequence[str]) -> Sequence[Sequence[str]]:
        """All at once: nothing here is tried again."""
        return [texts] if texts else []

    async def tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """By the model's own tokeniser."""
        numbers = await to_thread.run_sync(self._loaded().tokens, texts)
        return [len(one) for one in numbers]

    async def embed(self, texts: Sequence[str]) -> Embedding:
        """One row a text, at unit length."""
        refuse_unfit(texts)
        model, rows, tokens = self._loaded(), [], 0
        for chunk in chunks(texts):
            part, used = await to_thread.run_sync(embedded, model, chunk)
            rows.append(part)
            tokens += used
        return Embedding(np.concatenate(rows) if rows else np.empty((0, model.table.shape[1]), np.float32), tokens)

    async def close(self) -> None:
        """Let go of the table."""
        self._model = None

    def _loaded(self) -> Model:
        if self._model is None:
            raise EmbedderError("The local model is not loaded: ask `ready` first.", code="embedder_not_ready")
        return self._model


def chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """*texts* in order, in chunks of bounded work; one long text is a chunk of its own."""
    start = size = 0
    for end, text in enumerate(texts):
        if end > start and (size + len(text) > CHUNK_CHARS or end - start == CHUNK_TEXTS):
            yield texts[start:end]
            start, size = end, 0
        size += len(text)
    if start < len(texts):
        yield texts[start:]


def embedded(model: Model, texts: Sequence[str]) -> tuple[Vectors, int]:
    """Vectors at unit length and the number of tokens. CPU only."""
    vectors, tokens = model.vectors(texts)
    vectors, bad = unit(vectors)
    if bad:
        raise no_vector("A text without a known word has no vector.", bad)
    return vectors, tokens


# --- loading ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def load(name: str, dims: int | None, folder: Path | None) -> Model:
    """Read tokeniser and table; the table as float32 is 32 MB at 256 dims. Raises `EmbedderError` with what to do."""
    folder = folder or package_folder()
    path, dims = weights(folder, name, dims)
    table = _table(path, dims)
    import scipy.sparse

    tokenizer = _tokenizer(folder / "tokenizers" / f"{name}_tokenizer_config.json")
    return Model(tokenizer, table, _digest(path), scipy.sparse)


def package_folder() -> Path:
    """Where the wordllama wheel lies, found without importing it."""
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        detail = "The package wordllama is not installed: install Reshelve with its dependencies."
        raise EmbedderError(detail, code="embedder_missing")
    return Path(spec.submodule_search_locations[0])


def weights(folder: Path, name: str, dims: int | None) -> tuple[Path, int]:
    """The smallest weights file of model *name* that holds *dims*, and the dims to take of it (256 by default)."""
    widths = [width for width in DIMS if (folder / "weights" / f"{name}_{width}.safetensors").is_file()]
    if not widths:
        detail = f"There is no local model {name[:60]!r}: leave recipe.embedder.model out, or say {MODEL}."
        raise EmbedderError(detail, code="unknown_model")
    offered = [width for width in DIMS if width <= widths[-1]]
    wanted = dims or min(DEFAULT_DIMS, widths[-1])
    if wanted not in offered:
        choice = ", ".join(map(str, offered))
        detail = f"The local model {name} has no {wanted} dims: set recipe.embedder.dims to one of {choice}."
        raise EmbedderError(detail, code="wrong_dims")
    width = next(width for width in widths if width >= wanted)
    return folder / "weights" / f"{name}_{width}.safetensors", wanted


def _table(path: Path, dims: int) -> Vectors:
    from safetensors.numpy import load_file

    return np.ascontiguousarray(load_file(path)["embedding.weight"][:, :dims], dtype=np.float32)


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _tokenizer(path: Path) -> "Tokenizer":
    """The tokeniser without padding and truncation.

    Where no token reaches from one word into the next, cutting the text into words first changes nothing but the time:
    the merges of a word are then remembered.
    """
    # One thread a call: how many calls run at once is what EMBEDDING_CONCURRENCY says. Set, it also keeps the library
    # from warning when a process is forked.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Regex, Tokenizer
    from tokenizers.pre_tokenizers import Split

    tokenizer: Tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if tokenizer.pre_tokenizer is None and not any("▁" in token.lstrip("▁") for token in tokenizer.get_vocab()):
        tokenizer.pre_tokenizer = Split(Regex("▁+[^▁]*"), "isolated")
    return tokenizer
