"""Why a product is found as it is: one answer from all that a trace gathered. Pure; the first that fits is the answer.

source_unresolved ─▶ no_live_generation ─▶ index_missing      nothing can be said of the product itself
left_out_by_rule, rejected, orphaned, not_in_source           it should not be in the live generation
foreign_generation, missing, without_vector                   it should, and cannot be found
stale, recipe_changed                                         it is found, and not as it is now
current                                                       all is well
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import Problem
from app.models import ChangeRow, Generation, RejectRow
from app.spec import RESERVED_FIELDS
from app.sync.comparing import same_value
from app.sync.words import Document, Hit, Reject

HASHES = ("input_hash", "content_hash", "text_hash")


@dataclass(frozen=True, slots=True)
class Said:
    """What the source says of a product by one recipe: a document, a reject, or (both None) that it is not there."""

    document: Document | None = None
    reject: Reject | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """A product in one generation. *said* is what the source says by the recipe of that one, None where nobody knows.

    `lost`: the index itself is not there. `has_vector` is None where that means nothing.
    """

    generation: Generation
    said: Said | None
    hit: Hit | None = None
    has_vector: bool | None = None
    lost: bool = False

    @property
    def differs(self) -> Sequence[str]:
        """The fields in which it is not what the source says now."""
        if self.hit is None or self.said is None or self.said.document is None:
            return ()
        return differing(self.said.document, self.hit.source)

    @property
    def agrees(self) -> bool | None:
        """Whether it is what the source says now; None where that is not known."""
        if self.said is None or self.lost:
            return None
        return (self.hit is not None) == (self.said.document is not None) and not self.differs


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one product. *said* is by the catalogue's recipe now, *live* the copy that readers see.

    `embedder_changed`: the catalogue's recipe names another embedder than the live generation was built with.
    *withheld* is the last run if it kept deletions back, *failed* the reason code of its last event if that failed.
    """

    said: Said
    live: Copy | None
    copies: Sequence[Copy] = ()
    trouble: Problem | None = None
    reject: RejectRow | None = None
    change: ChangeRow | None = None
    embedder_changed: bool = False
    held: bool = False
    withheld: str | None = None
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Why:
    """The answer: *code* for programs, *detail* for people."""

    code: str
    detail: str


def differing(document: Document, stored: Mapping[str, Any]) -> list[str]:
    """The fields in which *stored* is not *document*; its hashes only where nothing else tells of a difference."""
    names = sorted({*document.fields, *stored} - RESERVED_FIELDS)
    found = [name for name in names if not same_value(document.fields.get(name), stored.get(name))]
    found += ["text"] if document.text != stored.get("text") else []
    return found or (["content_hash"] if document.content_hash != stored.get("content_hash") else [])


def why(facts: Facts) -> Why:
    """The one answer."""
    if facts.trouble is not None:
        return Why("source_unresolved", f"What the source says of it is not known: {facts.trouble.detail}")
    if facts.live is None:
        return Why("no_live_generation", f"{_at_source(facts.said)} No generation is live yet: sync the catalogue.")
    if facts.live.lost:
        index = facts.live.generation.index
        return Why("index_missing", f"The live index {index} was deleted: roll back, or sync with strategy full.")
    found = _unwanted(facts, facts.live) if facts.said.document is None else _wanted(facts, facts.live)
    if found.code in ("current", "not_in_source", "rejected"):
        return found
    told = f" Its last event failed ({facts.failed}): see the failed events." if facts.failed else ""
    told += " The catalogue is held after a rollback: no run starts until released." if facts.held else ""
    return Why(found.code, found.detail + told)


def _at_source(said: Said) -> str:
    if said.reject is not None:
        return f"The source has it, and it is left out: {said.reject.detail}."
    return "The source has it." if said.document is not None else "The source does not have it."


# --- it should not be there ------------------------------------------------------------------------------------------


def _unwanted(facts: Facts, live: Copy) -> Why:
    reject, is_there = facts.said.reject, live.hit is not None
    goes = f"run {facts.withheld} withheld deletions, approve them" if facts.withheld else "the next run removes it"
    still = f" It still is in the live generation: {goes}." if is_there else ""
    if reject is not None:
        code = "left_out_by_rule" if reject.by == "rule" else "rejected"
        return Why(code, f"{reject.code}: {reject.detail}.{still}")
    if is_there:
        return Why("orphaned", f"It is gone from the source and still in the live generation: {goes}.")
    return Why("not_in_source", f"The source does not have it.{_last(facts.change)}")


def _last(change: ChangeRow | None) -> str:
    return f" Run {change.run} last found it {change.kind}." if change is not None else ""


# --- it should be there ----------------------------------------------------------------------------------------------


def _wanted(facts: Facts, live: Copy) -> Why:
    assert facts.said.document is not None
    if live.generation.origin != "own":
        where = "has a document of this id" if live.hit else "does not have it"
        return Why("foreign_generation", f"The live index is not ours and {where}: sync the catalogue.")
    if live.hit is None:
        return _absent(facts, live)
    if live.has_vector is False:
        return Why("without_vector", "It has no vector, so only words find it: sync with strategy repair.")
    if live.differs or live.agrees is False:
        fields = ", ".join(live.differs) or "its being there at all"
        return Why(
            "stale", f"The source has changed since the live generation read it, in: {fields}. A sync carries it."
        )
    if facts.embedder_changed or differing(facts.said.document, live.hit.source):
        return Why("recipe_changed", "The recipe has changed since the live generation was built: a sync carries it.")
    return Why("current", "The live generation has it as the source has it now.")


def _absent(facts: Facts, live: Copy) -> Why:
    told = facts.reject
    if told is not None and told.by == "engine" and told.run == live.generation.created_by:
        return Why("rejected", f"The engine refused its document: {told.code}: {told.detail}")
    if live.said is not None and live.said.document is None:
        return Why(
            "recipe_changed", "The recipe that the live generation was built by leaves it out: sync the catalogue."
        )
    if _was_carried(facts):
        return Why("missing", "It was carried before and the live index has lost it: sync with strategy repair.")
    return Why("missing", "The source has it and no run has carried it yet: sync the catalogue.")


def _was_carried(facts: Facts) -> bool:
    """By the change log, or because a generation that is not live has it."""
    logged = facts.change is not None and facts.change.kind != "deleted"
    return logged or any(copy.hit is not None and copy.generation.state == "retired" for copy in facts.copies)
