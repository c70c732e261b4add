"""Comparing: what differs between the source's point in time and what an index holds, found as products stream by.

An incremental run compares with its draft, the clone, and leaves behind what is the same; a full run compares with the
live index and only tells. Products are told apart by the hash of their raw input, before anything is cleaned: that is
what lets an unchanged one cost next to nothing. Only where inputs differ are the documents themselves compared, field
by field, to name what changed; one whose document comes out the same is written (its input is new) and counts as
unchanged.

What the index holds and the point in time lacks, or has in a form that is left out, stays unseen: `app.sync.absences`
looks for it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import sample
from typing import Any

import numpy as np
from anyio import to_thread
from numpy.typing import NDArray

from app.errors import EngineError, RunFailed
from app.sync.holdings import Gathered, Holdings, holding_of, holdings_of, id_keys, input_keys
from app.sync.planning import Plan
from app.sync.prepare import Input, Preparer, body
from app.sync.running import Ports
from app.sync.words import Batch, Change, Document, ModelStamp, Page

FOLLOWING = frozenset({"updated_at", "input_hash", "content_hash", "text_hash"})
"""Fields that only say when we wrote, or follow from others."""


FEW = 10
"""So many documents never are too many to write over, however small the catalogue."""


SAME = 8
"""Unchanged products of a page that may be looked at more closely."""


class Outgrown(RunFailed):
    """So much differs that a fresh index is the better way."""


@dataclass
class Comparison:
    """What a run compares with: *held*, of *index* (None: nothing that is known). *added* are the new ones it found.

    *changed*, *returned* and *withheld* count the documents it found to write, the products that were back at a second
    look, and the deletions that a guard holds back. *same* are some of those that were held as they are. *unsound* are
    held without a vector of this model, whatever they were made of, and *moved* changed in the source while a repair
    went on. `skips`: unchanged products go no further. `comparable`: what is held was hashed by the same recipe.
    """

    index: str | None
    held: Holdings
    skips: bool = False
    comparable: bool = False
    unsound: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)
    added: Gathered = field(default_factory=Gathered)
    same: list[str] = field(default_factory=list)
    changed: int = 0
    returned: int = 0
    withheld: int = 0

    def prepared(self, preparer: Preparer, page: Page) -> Batch:
        """A page as a batch: which of its documents are new, which are held in another form. CPU only."""
        new: set[str] = set()
        differing: set[str] = set()

        def known(inputs: Sequence[Input]) -> Sequence[bool]:
            held, same = self.held.see(id_keys([one.id for one in inputs]), input_keys([one.hash for one in inputs]))
            new.update(one.id for one, is_held in zip(inputs, held, strict=True) if not is_held)
            differing.update(one.id for one, other in zip(inputs, held & ~same, strict=True) if other)
            self._keep_some(inputs, held & same)
            return [bool(one) for one in same & self.skips]

        batch = preparer.prepare(page, known)
        self.held.unsee(id_keys([reject.product_id for reject in batch.rejects]))
        self._add([document for document in batch.documents if document.id in new or not self.skips])
        return replace(batch, new=frozenset(new), held=frozenset(differing))

    def _keep_some(self, inputs: Sequence[Input], same: NDArray[np.bool_]) -> None:
        places = np.flatnonzero(same).tolist()
        self.same += [inputs[place].id for place in sample(places, min(len(places), SAME))]

    def _add(self, documents: Sequence[Document]) -> None:
        self.added.add(id_keys([one.id for one in documents]), input_keys([one.input_hash for one in documents]))

    def check_grown(self, changed: int, plan: Plan) -> None:
        """Raises `Outgrown` when *changed* is more of what is held than the policy lets a run write over."""
        percent, products = plan.spec.policy.delta_percent, max(len(self.held), plan.products)
        if self.skips and changed > max(products * percent / 100, FEW):
            why = f"More than {percent:g} % of {products} products differ (policy.delta_percent)."
            raise Outgrown(why, code="outgrown")


async def compared_with(ports: Ports, plan: Plan, index: str | None) -> Comparison:
    """The comparison of a run that builds on, or beside, *index*."""
    if index is None:
        return Comparison(None, Gathered().holdings())
    try:
        with ports.tally.timed("holdings"):
            held = await holdings_of(ports.target, index, ports.slices)
    except EngineError as error:
        if plan.repairs or (plan.clones and error.transient):
            raise
        if plan.clones:
            raise Outgrown(f"The live index cannot be read: {error.detail}", code="outgrown") from None
        return Comparison(None, Gathered().holdings())  # a fresh index needs nothing of it
    if held.doubled and plan.builds_on:
        raise Outgrown(f"{held.doubled} products are in the live index more than once.", code="outgrown")
    comparable = plan.base is not None and plan.base.recipe_hash == plan.recipe_hash
    comparison = Comparison(index, held, skips=plan.builds_on, comparable=comparable)
    if comparison.skips:
        await find_unsound(ports, plan, comparison)
    return comparison


async def find_unsound(ports: Ports, plan: Plan, comparison: Comparison) -> None:
    """Documents without a vector of this model: no input tells them. Raises `Outgrown` for too many."""
    assert comparison.index is not None
    where = [unsound(plan.stamp)]
    comparison.check_grown(await ports.target.counted(comparison.index, where), plan)
    async with holding_of(ports.target, comparison.index, 1, where) as (pages,):
        async for page in pages:
            comparison.unsound.update(page.ids)
    comparison.held.spoil(id_keys(sorted(comparison.unsound)))


def unsound(stamp: ModelStamp) -> Mapping[str, Any]:
    """The query for documents that lack a vector of this model."""
    sound = [
        {"exists": {"field": "embedding"}},
        {"term": {"embed_model_alias": stamp.alias}},
        {"term": {"embed_model_version": stamp.version}},
    ]
    return {"bool": {"must_not": [{"bool": {"filter": sound}}]}}


async def differ(ports: Ports, plan: Plan, comparison: Comparison, batch: Batch) -> Batch:
    """*batch* with the changes it makes; the documents that are held in another form are read for that."""
    comparison.changed += len(batch.documents)
    comparison.check_grown(comparison.changed, plan)
    if comparison.index is None:
        ports.tally.add(added=len(batch.documents))
    if not comparison.comparable or comparison.index is None:
        return batch
    held = await ports.target.get(comparison.index, sorted(batch.held), None) if batch.held else ()
    stored = {hit.id: hit.source for hit in held}
    changes = await to_thread.run_sync(_changes, plan, batch, stored, comparison.unsound)
    new = sum(change.kind == "added" for change in changes)
    same = batch.unchanged + len(batch.documents) - len(changes)
    ports.tally.add(added=new, modified=len(changes) - new, unchanged=same)
    return replace(batch, changes=changes)


def _changes(plan: Plan, batch: Batch, stored: Mapping[str, Mapping[str, Any]], unsound: set[str]) -> list[Change]:
    changes = []
    for document in batch.documents:
        if document.id in batch.new:
            changes.append(Change(document.id, "added"))
        elif document.id in batch.held:
            fields = [*differing(plan, document, stored.get(document.id, {}))]
            fields += ["embedding"] if document.id in unsound else []
            changes += [Change(document.id, "modified", fields)] if fields else []
    return changes


def differing(plan: Plan, document: Document, stored: Mapping[str, Any]) -> Sequence[str]:
    """The names of the fields in which a document is not what is stored of it."""
    wanted = body(document, plan.stamp, plan.spec.tenant, plan.recipe.lang, None)
    names = {*wanted, *stored} - FOLLOWING
    return sorted(name for name in names if not same_value(wanted.get(name), stored.get(name)))


def same_value(one: Any, other: Any) -> bool:
    """Whether two stored values say the same; the order of a list means nothing, as the hashes have it."""
    if isinstance(one, list) and isinstance(other, list):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    return bool(one == other)
