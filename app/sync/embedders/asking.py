"""How an endpoint is asked: where, for which model, with how much text.

Tokens are estimated, since the tokeniser's tables would have to be fetched: at most a third of the bytes at first (an
English token has about four bytes, a Chinese one three), then by what the endpoint counts in `usage`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil

from app.errors import EmbedderError
from app.sync.fit import NO_VECTOR

TOKENS_A_BYTE = 1 / 3
MARGIN = 1.1
"""An estimate is this much above what was seen, so that a batch seldom turns out too large."""

LEARN_FROM_BYTES = 1_000
"""Requests below this say too little about the usual text."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Everything that is fixed about asking. `key` is None where none was configured for this very address."""

    provider: str
    model: str
    url: str
    dims: int | None = None
    key: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    local: bool = False

    @property
    def whom(self) -> str:
        """For error texts."""
        return f"The embedder {self.provider} at {self.url}"

    @property
    def variable(self) -> str:
        """The beginning of its settings' names."""
        return f"RESHELVE_EMBEDDERS__{self.provider.upper()}"


class InputRefused(EmbedderError):
    """The endpoint refused what it was given for good: one of the texts, or all of them."""

    code = NO_VECTOR

    def __init__(
        self, detail: str, *, too_long: bool = False, too_many: bool = False, limit: int | None = None
    ) -> None:
        """*limit* is the number of tokens that the endpoint says a text may have."""
        super().__init__(detail)
        self.too_long, self.too_many, self.limit = too_long, too_many, limit


class Estimate:
    """How many tokens a text has."""

    def __init__(self) -> None:
        self._rate = TOKENS_A_BYTE

    def tokens(self, text: str) -> int:
        """Rather too many than too few."""
        return ceil(len(text.encode()) * self._rate * MARGIN)

    def learn(self, texts: Sequence[str], counted: int) -> None:
        """The endpoint counted *counted* tokens in *texts*."""
        size = sum(len(text.encode()) for text in texts)
        if size >= LEARN_FROM_BYTES and counted > 0:
            self._rate += 0.2 * (min(1.0, max(0.1, counted / size)) - self._rate)

    def cut(self, text: str, limit: int) -> str:
        """*text*, or as much of its beginning as has *limit* tokens, cut at a word where it has words."""
        if self.tokens(text) <= limit:
            return text
        room = max(4, int(limit / (self._rate * MARGIN)))
        head = text.encode()[:room].decode(errors="ignore")
        words = head if text[len(head) : len(head) + 1].isspace() else head.rpartition(" ")[0]
        return words.rstrip() or head


def split(sizes: Sequence[int], count: int, total: int) -> Iterator[slice]:
    """Neighbours together, at most *count* of them and *total* of their sizes; a larger one stands alone."""
    start = held = 0
    for end, size in enumerate(sizes):
        if end > start and (held + size > total or end - start >= count):
            yield slice(start, end)
            start, held = end, 0
        held += size
    if start < len(sizes):
        yield slice(start, len(sizes))
