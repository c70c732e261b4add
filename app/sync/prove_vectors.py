"""Proving vectors: bit by bit what they should be, and near enough to be found by.

What a vector should be is known of those that were sent, and of the others by the store: it has what the model answered
for just this text. So no text is embedded for the proof but one that the store has forgotten, and that is kept.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.sync.proof import SAMPLED, Proof
from app.sync.vectors import asked, content_key
from app.sync.words import Document, Vectors

NEIGHBOURS = 10
"""Among so many nearest documents a product must find itself."""

CANDIDATES = (200, 2_000)
"""How hard the approximate graph is searched: a miss is repeated once with the larger number."""

TIE = 1e-3
"""Distances of unit vectors that differ by less are ties: quantised graphs are no more exact than that."""

SAME_TEXT = 1e-2
"""Two answers of one model to one text are nearer than this; to another text, of another model, in another byte order,
they are not."""

PASSED_BY = 16
"""One in so many may be passed by."""

NEAR = 0.1
"""A text's own vector is nearer than this, also where a model gives a slightly different one each time."""


async def check_vectors(proof: Proof) -> None:
    """What the engine gives back is, bit by bit, what it was given."""
    sent = {document.id: vector for document, vector in proof.sample.kept}
    others = await remembered(proof, [document for document in proof.drawn if document.id not in sent])
    wanted = {**sent, **others}
    stored = await proof.target.vectors(proof.draft.index, sorted(wanted))
    wrong = [one for one, vector in sent.items() if not same_bits(vector, stored.get(one))]
    wrong += [one for one, vector in others.items() if not is_near(vector, stored.get(one))]
    wrong = await unexcused(proof, wrong)
    detail = f"The stored vectors of {', '.join(wrong[:5])} are not those of their texts: byte order, precision, model."
    proof.check("vector", f"{len(wanted)} equal", len(wanted) - len(wrong), not wrong, detail if wrong else "")


async def remembered(proof: Proof, documents: Sequence[Document]) -> Mapping[str, Vectors]:
    """The vectors that the store has for the texts of *documents*, by document id."""
    keys = {document.id: content_key(document.text_hash, proof.plan.stamp) for document in documents}
    if not keys:
        return {}
    known = await proof.ports.store.known(sorted(set(keys.values())), proof.plan.stamp.dims)
    return {one: known[key] for one, key in keys.items() if key in known}


async def unexcused(proof: Proof, ids: Sequence[str]) -> list[str]:
    """Those of *ids* that no event has changed meanwhile."""
    told = await proof.ports.ledger.told_of(proof.draft, ids) if ids else ()
    return [one for one in ids if one not in told]


def same_bits(sent: Vectors, stored: Vectors | None) -> bool:
    """Whether two vectors are the same to the last bit."""
    return stored is not None and sent.astype(np.float32).tobytes() == stored.astype(np.float32).tobytes()


def is_near(known: Vectors, stored: Vectors | None) -> bool:
    """Whether they are of one text: models may answer it a little differently each time they are asked."""
    return stored is not None and float(np.linalg.norm(known - stored)) < SAME_TEXT


async def check_self(proof: Proof) -> None:
    """Every sampled product is found by its own text, but for few that the graph passes by.

    An approximate graph has nodes that no search arrives at, however hard it looks. Their vectors are right, so they
    are no fault of the draft: they are told, and refuse it only when they are many.
    """
    sent = [document for document, _ in proof.sample.kept]
    ids = {document.id for document in sent}
    tried = [*sent, *(document for document in proof.drawn if document.id not in ids)][:SAMPLED]
    queries = await as_queries(proof, tried)
    lost = [document.id for document in tried if not await finds_itself(proof, document, queries[document.id])]
    lost = await unexcused(proof, lost)
    hidden = passed_by(queries, await proof.target.vectors(proof.draft.index, lost)) if lost else []
    passed = len(lost) == len(hidden) <= len(tried) // PASSED_BY
    detail = f"Not found by their own text: {', '.join(lost[:5])}." if lost else ""
    detail += f" The engine's graph passes by {len(hidden)} of them, whose vectors are right." if hidden else ""
    proof.check("self_test", f"{len(tried)} found", len(tried) - len(lost), passed, detail)


def passed_by(queries: Mapping[str, Vectors], stored: Mapping[str, Vectors]) -> list[str]:
    """Those of *stored* whose vector is the one of their text: if no search finds them, it is not their fault."""
    return [one for one, vector in stored.items() if float(np.linalg.norm(queries[one] - vector)) < NEAR]


async def as_queries(proof: Proof, documents: Sequence[Document]) -> Mapping[str, Vectors]:
    """A vector for the text of each document, by its id."""
    known = await remembered(proof, documents)
    forgotten = {one.text: content_key(one.text_hash, proof.plan.stamp) for one in documents if one.id not in known}
    if not forgotten:
        return known
    on_retry = proof.ports.tally.retried("self_test")
    embedding = await asked(proof.embedder.embed, list(forgotten), proof.ports.limits, on_retry)
    proof.ports.tally.embedded(len(forgotten), embedding.tokens)
    await proof.ports.store.keep(list(forgotten.values()), embedding.vectors)
    vectors = dict(zip(forgotten, embedding.vectors, strict=True))
    return {**known, **{one.id: vectors[one.text] for one in documents if one.id not in known}}


async def finds_itself(proof: Proof, document: Document, vector: Any) -> bool:
    """Whether *vector*, of the document's own text, finds it, or as many others that are as near as it is."""
    for candidates in CANDIDATES:
        hits = await proof.target.nearest(proof.draft.index, vector.tolist(), NEIGHBOURS, candidates, ())
        ids = [hit.id for hit in hits]
        if document.id in ids or await all_tie(proof, document.id, ids, vector):
            return True
    return False


async def all_tie(proof: Proof, own: str, ids: Sequence[str], vector: Any) -> bool:
    """Whether *own* is near *vector* and there are enough *ids*, none of them further from it than *own* is."""
    stored = await proof.target.vectors(proof.draft.index, [own, *ids])
    distance = {one: float(np.linalg.norm(vector - found)) for one, found in stored.items()}
    if len(ids) < NEIGHBOURS or distance.get(own, NEAR) >= NEAR:
        return False
    return all(distance[other] <= distance[own] + TIE for other in ids)
