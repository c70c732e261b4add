"""Result lists are compared and judged here: pure figures, the same for `compare` and for a verdict.

Ids count by their first place in a list; ranks begin at 1. Judgements are gains by product: 0 is of no use, more is
better. Gains are taken as they are (as `trec_eval` does), not as powers of two.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import log2

LONGEST_QUERY = 200
"""Characters of a query that is drawn from a product's name."""

Moves = Mapping[str, tuple[int | None, int | None]]
"""Product to its rank on the left and on the right; None where a list does not have it."""


def overlap(left: Sequence[str], right: Sequence[str]) -> float:
    """The share of ids that both lists have, of the longer one: 1 for two empty lists."""
    ours, theirs = set(left), set(right)
    longest = max(len(ours), len(theirs))
    return len(ours & theirs) / longest if longest else 1.0


def rank_moves(left: Sequence[str], right: Sequence[str]) -> Moves:
    """The ids that do not have the same rank in both lists, in the order of the left one, then of the right one."""
    ours, theirs = _ranks(left), _ranks(right)
    both = [(product, ours.get(product), theirs.get(product)) for product in dict.fromkeys((*left, *right))]
    return {product: (was, now) for product, was, now in both if was != now}


def ndcg(ids: Sequence[str], gains: Mapping[str, float], k: int = 10) -> float:
    """Normalised discounted cumulative gain of the first *k*: 1 is the best order there is, 0 where nothing gains."""
    best = _discounted(sorted(gains.values(), reverse=True)[:k])
    found = _discounted([gains.get(product, 0.0) for product in list(_ranks(ids))[:k]])
    return found / best if best > 0 else 0.0


def recall(ids: Sequence[str], gains: Mapping[str, float], k: int) -> float:
    """The share of products with a gain that are among the first *k*; 0 where no product has one."""
    wanted = {product for product, gain in gains.items() if gain > 0}
    return len(wanted & set(list(_ranks(ids))[:k])) / len(wanted) if wanted else 0.0


def drawn(names: Iterable[str | None], most: int = 10) -> list[str]:
    """At most *most* queries from products' names, each once, evenly from the first name to the last."""
    told = list(dict.fromkeys(" ".join(name.split())[:LONGEST_QUERY] for name in names if name and name.strip()))
    count = min(most, len(told))
    return [told[place * len(told) // count] for place in range(count)]


def _ranks(ids: Sequence[str]) -> dict[str, int]:
    return {product: rank for rank, product in enumerate(dict.fromkeys(ids), start=1)}


def _discounted(gains: Sequence[float]) -> float:
    """Negative judgements gain nothing, and take nothing from the others."""
    return sum(max(gain, 0.0) / log2(rank + 1) for rank, gain in enumerate(gains, start=1))
