"""Relevance judgements of a catalogue: which products people found right for which query, as TREC writes it.

Two files below `FILES_DIR`: `policy.qrels` names the one with lines `query number, iteration, product, gain` between
white space, for example `icecat.qrels.tsv`; a product is called by its id or by its SKU. The queries stand beside it in
the file whose name has `queries` in the place of `qrels`, as lines `query number, tab, words`.
"""

from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path

from app.errors import Invalid
from app.sync.words import Scored

MOST = 10 * 2**20
"""Bytes of a file."""


@dataclass(frozen=True)
class Judgements:
    """Queries in words by their numbers, and what each product gains for each of them."""

    queries: Mapping[str, str]
    gains: Mapping[str, Mapping[str, float]]

    @cached_property
    def products(self) -> Set[str]:
        """Whatever was judged."""
        return {product for gain in self.gains.values() for product in gain}

    def named(self, hit: Scored) -> str:
        """*hit* as people called it: by its SKU where that was judged, else by its id."""
        sku = hit.source.get("sku")
        return sku if isinstance(sku, str) and sku in self.products else hit.id


def read(folder: Path | None, name: str) -> Judgements:
    """The judgements of the file *name* below *folder*. Raises `Invalid(code="qrels")` with what is wrong."""
    if folder is None:
        raise _wrong("FILES_DIR is not set")
    if "qrels" not in Path(name).name:
        raise _wrong("its name must have qrels in it; the queries are beside it under the name with queries instead")
    gains: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for number, line in enumerate(_lines(folder, name), start=1):
        try:
            query, _, product, gain = line.split()
            gains[query][product] = _finite(float(gain))
        except ValueError:
            raise _wrong(f"line {number} is not: query, iteration, product, gain") from None
    path = Path(name)
    pairs = (
        line.partition("\t") for line in _lines(folder, str(path.with_name(path.name.replace("qrels", "queries"))))
    )
    queries = {number: words.strip() for number, _, words in pairs if number in gains and words.strip()}
    if not queries:
        raise _wrong("no query that is judged has words in the file of queries")
    return Judgements(queries, {number: gains[number] for number in queries})


def _finite(gain: float) -> float:
    if not isfinite(gain):
        raise ValueError
    return gain


def _lines(folder: Path, name: str) -> list[str]:
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise _wrong(f"{name} is not below FILES_DIR")
        with path.open("rb") as file:
            content = file.read(MOST + 1)
        if len(content) > MOST:
            raise _wrong(f"{name} has over {MOST} bytes")
        return [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise _wrong(f"{name!r} cannot be read ({type(error).__name__})") from None


def _wrong(why: str) -> Invalid:
    return Invalid(f"policy.qrels: {why}.", code="qrels")
