"""Proving by queries: what readers would find in the draft, beside what they find in the live generation.

The queries are the catalogue's own (`policy.queries`), else names of its products. Declared ones are compared by
meaning, each side's query embedded with the model of the side it is put to; drawn ones by words, which asks no model.
How much the lists differ is told; it refuses only below a declared floor. Where people judged products for queries
(`policy.qrels`), the figures before and after stand on the verdict.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from statistics import fmean
from typing import Any

import numpy as np

from app.errors import Problem
from app.sync.judgements import Judgements
from app.sync.ports import Embedder, Live
from app.sync.proof import Proof
from app.sync.ranking import drawn, ndcg, overlap, rank_moves, recall
from app.sync.vectors import asked, content_key
from app.sync.words import Scored

HITS = 10
"""Hits that are compared and judged."""

CANDIDATES = 200
PORTION = 50
"""Queries that are embedded at once."""

Lists = Sequence[Sequence[Scored]]
Figure = Callable[[Sequence[str], Mapping[str, float], int], float]


async def check_queries(proof: Proof) -> None:
    """Overlap and moved ranks of the result lists of both generations."""
    base, policy = proof.plan.base, proof.plan.spec.policy
    if base is None:
        return
    queries = list(policy.queries) or drawn(document.fields.get("name") for document in proof.drawn)
    if not queries:
        return
    ask = by_meaning if policy.queries else by_words
    try:
        old, new = [[[hit.id for hit in hits] for hits in await ask(proof, side, queries)] for side in (base, None)]
    except Problem as problem:
        proof.check("queries", "compared", problem.code, policy.overlap_floor is None, problem.detail)
        return
    shares = [overlap(was, now) for was, now in zip(old, new, strict=True)]
    moved = sum(len(rank_moves(was, now)) for was, now in zip(old, new, strict=True))
    share, floor = fmean(shares), policy.overlap_floor
    worst = queries[min(range(len(queries)), key=lambda place: shares[place])]
    told = f"{len(queries)} queries, {moved} ranks moved, least in common for {worst[:60]!r} ({min(shares):.2f})."
    expected = "told" if floor is None else f"at least {floor:g}"
    proof.check("queries", expected, round(share, 3), floor is None or share >= floor, told)


async def check_judgements(proof: Proof) -> None:
    """nDCG@10 and recall@10 by the judgements of people: expected is what readers have now. They refuse nothing."""
    judged, base = proof.ports.judgements, proof.plan.base
    if judged is None:
        return
    words = list(judged.queries.values())
    try:
        now = await by_meaning(proof, None, words)
        was = await by_meaning(proof, base, words) if base else None
    except Problem as problem:
        proof.check("ndcg", "judged", problem.code, True, f"Not judged: {problem.detail}")
        return
    gains = [judged.gains[number] for number in judged.queries]
    for name, figure in (("ndcg", ndcg), ("recall", recall)):
        before, after = [_mean(figure, judged, gains, side) if side else None for side in (was, now)]
        proof.check(name, before, after, True, f"{name}@{HITS} of {len(words)} judged queries, before and after.")


def _mean(figure: Figure, judged: Judgements, gains: Sequence[Mapping[str, float]], found: Lists) -> float:
    names = [[judged.named(hit) for hit in hits] for hits in found]
    return round(fmean(figure(ids, gain, HITS) for ids, gain in zip(names, gains, strict=True)), 4)


async def by_words(proof: Proof, live: Live | None, queries: Sequence[str]) -> Lists:
    """The hits of each query by words, in the draft or in *live*."""
    index = live.index if live else proof.draft.index
    return [await proof.target.lexical(index, query, HITS, ()) for query in queries]


async def by_meaning(proof: Proof, live: Live | None, queries: Sequence[str]) -> Lists:
    """The same by vectors of the model that made the index."""
    index = live.index if live else proof.draft.index
    embedder = await proof.ports.embedder_of(live) if live else proof.embedder
    vectors = await query_vectors(proof, embedder, queries)
    return [await proof.target.nearest(index, vector.tolist(), HITS, CANDIDATES, ()) for vector in vectors]


async def query_vectors(proof: Proof, embedder: Embedder, queries: Sequence[str]) -> list[Any]:
    """A vector for each query; they are kept like those of products, so the next run asks for none of them."""
    keys = [content_key(sha256(query.encode()).hexdigest(), embedder.stamp) for query in queries]
    known = dict(await proof.ports.store.known(list(dict.fromkeys(keys)), embedder.stamp.dims))
    missing = {key: query for key, query in zip(keys, queries, strict=True) if key not in known}
    for start in range(0, len(missing), PORTION):
        some = list(missing)[start : start + PORTION]
        rows = (await asked(embedder.embed, [missing[key] for key in some], proof.ports.limits)).vectors
        await proof.ports.store.keep(some, rows)
        known |= dict(zip(some, rows, strict=True))
    return [np.asarray(known[key]) for key in keys]
