"""Proving what is there: every id, every input, every stamp, and sampled documents field by field.

The ids and inputs of the whole sealed index are read from its columns and met with what should be there: what the
source's point in time had, of a clone also what it held before and nobody wrote over. Events are written to the draft,
too, so what they told of may be newer than that: it is asked after the index was read, and excused.
"""

from collections.abc import Sequence

import numpy as np
from anyio import to_thread

from app.sync.comparing import differing, unsound
from app.sync.flow import Step, flow
from app.sync.holdings import Flags, Holdings, Keys, holding_of, id_keys, input_keys
from app.sync.prepare import Preparer
from app.sync.proof import SAMPLED, Proof
from app.sync.words import Document, Hit, Holding, Page, Slice

NAMED = 5
"""Products that a failed check names."""


NAMES = 1000
"""Ids of documents that nobody expects, kept until it is known which of them events brought."""

NONE: Keys = np.empty(0, np.uint64)


class Expected:
    """What should be in the draft, and what of it was met; of everything else it is told who it was."""

    def __init__(self, tables: list[tuple[Holdings, Flags]], refused: set[str], spared: Keys = NONE) -> None:
        self._tables, self._spared = tables, spared
        self._met = [np.zeros(len(table), np.bool_) for table, _ in tables]
        for table, wanted in tables:
            places = table.places(id_keys(sorted(refused)))
            wanted[places[places >= 0]] = False
        self._dice = np.random.default_rng()
        self._drawn: list[tuple[float, str]] = []
        self._named: dict[str, None] = {}
        self._strangers, self._stale, self.doubled = NONE, NONE, 0

    @classmethod
    def of(cls, proof: Proof) -> "Expected":
        """A clone: what it held and was seen, or may not be deleted; and what is new. A fresh index: what is new.

        What was left out for cause goes from a clone, unless that waits for an approval with the other deletions.
        """
        comparison, added, refused = proof.comparison, proof.comparison.added.holdings(), proof.sample.refused
        tables = [(added, np.ones(len(added), np.bool_))]
        if comparison.skips:
            wanted = comparison.held.seen | bool(comparison.withheld)
            tables.append((comparison.held, wanted))
        keys = id_keys(sorted(refused)) if comparison.withheld else NONE
        spared = np.concatenate((keys[comparison.held.places(keys) >= 0], id_keys(sorted(comparison.moved))))
        return cls(tables, refused, spared)

    def meet(self, page: Holding) -> None:
        """Some documents of the draft. CPU only."""
        ids, inputs = id_keys(page.ids), input_keys(page.inputs)
        known = np.zeros(len(ids), np.bool_)
        lots = self._dice.random(len(ids))
        self._drawn += [(float(lots[at]), page.ids[int(at)]) for at in np.argsort(lots)[:SAMPLED]]
        self._drawn = sorted(self._drawn)[:SAMPLED]
        for (table, wanted), met in zip(self._tables, self._met, strict=True):
            places = table.places(ids)
            here = np.flatnonzero(places >= 0)
            here = here[wanted[places[here]]]
            known[here] = True
            stale = ~table.same(places[here], inputs[here])
            self._stale = np.concatenate((self._stale, ids[here][stale]))
            self.doubled += len(here) - int(np.count_nonzero(~met[np.unique(places[here])]))
            met[places[here]] = True
        self._strangers = np.concatenate((self._strangers, ids[~known]))
        for place in np.flatnonzero(~known)[: NAMES - len(self._named)]:
            self._named[page.ids[int(place)]] = None

    def spare(self, ids: Keys) -> None:
        """These may be there or not, made of whatever: events brought them, or took them away."""
        self._spared = np.concatenate((self._spared, ids))

    @property
    def missing(self) -> int:
        """How many were not met."""
        return sum(
            self._count(table.ids[wanted & ~met]) for (table, wanted), met in zip(self._tables, self._met, strict=True)
        )

    @property
    def strangers(self) -> int:
        """How many should not be there."""
        return self._count(self._strangers)

    @property
    def stale(self) -> int:
        """How many are made of another input."""
        return self._count(self._stale)

    @property
    def unexpected(self) -> list[str]:
        """Some of those that should not be there."""
        names = list(self._named)
        spared = np.isin(id_keys(names), self._spared)
        return [name for name, excused in zip(names, spared, strict=True) if not excused][:NAMED]

    def _count(self, ids: Keys) -> int:
        return int(np.count_nonzero(~np.isin(ids, self._spared)))

    @property
    def drawn(self) -> list[str]:
        """Some ids of the draft, each as likely as any other."""
        return [product for _, product in self._drawn]


async def check_ids(proof: Proof) -> Sequence[str]:
    """What should be there is, once and made of its present input; and nothing else is. Some ids, to look at closer."""
    expected = await to_thread.run_sync(Expected.of, proof)

    async def meet(page: Holding) -> None:
        await to_thread.run_sync(expected.meet, page)

    async with holding_of(proof.target, proof.draft.index, proof.ports.slices) as pages:
        await flow(pages, Step(meet))
    expected.spare(await touched(proof))
    missing, strangers = expected.missing, expected.strangers
    unexpected = expected.unexpected
    named = f" ({', '.join(unexpected)})" if unexpected else ""
    wrong = f"{missing} documents are missing, {strangers} should not be there{named}."
    proof.check("ids", 0, missing + strangers, missing + strangers == 0, wrong if missing + strangers else "")
    twice = f"{expected.doubled} products are there more than once." if expected.doubled else ""
    proof.check("duplicates", 0, expected.doubled, not expected.doubled, twice)
    stale = f"{expected.stale} documents are made of another input than the source has." if expected.stale else ""
    proof.check("inputs", 0, expected.stale, not expected.stale, stale)
    return expected.drawn


async def touched(proof: Proof) -> Keys:
    """The products of which events told since the draft was registered, asked for after what they may have changed."""
    keys = [id_keys(ids) async for ids in proof.ports.ledger.touched(proof.draft)]
    return np.unique(np.concatenate(keys)) if keys else NONE


async def check_stamps(proof: Proof) -> None:
    """Every document has a vector and says which model made it."""
    index, stamp, detail = proof.draft.index, proof.plan.stamp, ""
    if found := await proof.target.counted(index, [unsound(stamp)]):
        bare = await proof.target.counted(index, [{"bool": {"must_not": [{"exists": {"field": "embedding"}}]}}])
        detail = f"{bare} documents have no vector, {max(found - bare, 0)} do not name {stamp.alias}."
    proof.check("stamps", 0, found, not found, detail)


# --- fields ----------------------------------------------------------------------------------------------------------


async def draw(proof: Proof, ids: Sequence[str]) -> None:
    """Those of *ids* that the point in time holds, prepared: products that were sent now or held since before."""
    drawn = await prepared_again(proof, [one for one in ids if one not in proof.comparison.moved])
    proof.drawn.extend(document for one, document in drawn.items() if one not in proof.sample.refused)


async def check_fields(proof: Proof) -> None:
    """Sampled products, read from the source and prepared again, are what the target stores, field by field."""
    sent = {document.id: document for document, _ in proof.sample.kept}
    again = await prepared_again(proof, sorted(sent.keys() - proof.comparison.moved))
    wanted = sent | again | {document.id: document for document in proof.drawn}
    stored = {hit.id: hit for hit in await proof.target.get(proof.draft.index, sorted(wanted), None)}
    wrong = {one: why for one, document in wanted.items() if (why := difference(proof, document, stored.get(one)))}
    for one in await proof.ports.ledger.told_of(proof.draft, sorted(wrong)) if wrong else ():
        del wrong[one]
    wrong |= {one: f"{one} is not prepared the same way twice" for one in again if again[one] != sent[one]}
    why = "; ".join(list(wrong.values())[:NAMED])
    proof.check("fields", f"{len(wanted)} equal", len(wanted) - len(wrong), not wrong, why)


async def prepared_again(proof: Proof, ids: Sequence[str]) -> dict[str, Document]:
    """Those of *ids* that the point in time holds, prepared anew; one that was back at a second look is not in it."""
    preparer = Preparer(proof.plan.recipe)
    page = Page(Slice(0, 1), await proof.snapshot.get(ids, preparer.wanted), None, 0)
    batch = await to_thread.run_sync(preparer.prepare, page)
    return {document.id: document for document in batch.documents}


def difference(proof: Proof, document: Document, stored: Hit | None) -> str:
    """What differs between a document and what the target stores; empty when nothing does."""
    if stored is None:
        return f"{document.id} is missing"
    names = list(differing(proof.plan, document, stored.source))
    hashes = {"text_hash": document.text_hash, "content_hash": document.content_hash}
    names += [name for name, value in hashes.items() if stored.source.get(name) != value]
    return f"{document.id} differs in {', '.join(names)}" if names else ""
