"""Every answer to why a product is found as it is, from facts alone."""

from dataclasses import replace
from typing import Any

import pytest

from app.errors import SourceUnresolved
from app.models import ChangeRow, Generation, RejectRow
from app.reasons import Copy, Facts, Said, differing, why
from app.sync.words import Document, Hit, Reject

DOCUMENT = Document("7", {"price": 5.0, "tags": ["a", "b"]}, "red hat", "t", "c", "i")
STORED = {"price": 5.0, "tags": ["b", "a"], "text": "red hat", "content_hash": "c", "input_hash": "other", "lang": "de"}
SAID = Said(DOCUMENT)
RULED = Said(reject=Reject("7", "rule", "excluded", "status is one of the values"))
BROKEN = Said(reject=Reject("7", "data", "unfit", "price is no number"))
ABSENT = Said()


def generation(**more: Any) -> Generation:
    return Generation(
        **{"id": "g1", "catalogue": "s", "engine": "main", "index": "s-1", "state": "live", "created_by": "r1", **more}
    )


def copy(said: Said | None = SAID, stored: dict[str, Any] | None = STORED, **more: Any) -> Copy:
    hit = Hit("7", stored, 3) if stored is not None else None
    return Copy(**{"generation": generation(), "said": said, "hit": hit, "has_vector": hit is not None, **more})


RETIRED = copy(generation=generation(id="g0", state="retired"))
REFUSED = RejectRow(run="r1", product_id="7", by="engine", code="mapping", detail="bad")
ADDED = ChangeRow(catalogue="s", run="r0", product_id="7", kind="added", fields=[])
LOST = copy(stored=None)


@pytest.mark.parametrize(
    ("facts", "code", "told"),
    [
        (Facts(SAID, copy()), "current", "as the source has it"),
        (Facts(SAID, copy(), trouble=SourceUnresolved("Nothing there.")), "source_unresolved", "Nothing there."),
        (Facts(SAID, None), "no_live_generation", "The source has it."),
        (Facts(ABSENT, None), "no_live_generation", "does not have it"),
        (Facts(RULED, None), "no_live_generation", "left out: status"),
        (Facts(SAID, copy(stored=None, lost=True)), "index_missing", "s-1"),
        (Facts(RULED, copy(RULED, None)), "left_out_by_rule", "excluded: status"),
        (Facts(RULED, copy(RULED)), "left_out_by_rule", "still is in the live"),
        (Facts(BROKEN, copy(BROKEN, None)), "rejected", "unfit: price"),
        (Facts(ABSENT, copy(ABSENT)), "orphaned", "gone from the source"),
        (Facts(ABSENT, copy(ABSENT)), "orphaned", "the next run removes it."),
        (Facts(ABSENT, copy(ABSENT), withheld="r9"), "orphaned", "run r9 withheld deletions, approve them."),
        (Facts(RULED, copy(RULED), withheld="r9"), "left_out_by_rule", "run r9 withheld deletions, approve them."),
        (Facts(SAID, LOST, failed="mapping"), "missing", "Its last event failed (mapping)"),
        (Facts(ABSENT, copy(ABSENT, None)), "not_in_source", "does not have it."),
        (Facts(ABSENT, copy(ABSENT, None), change=ADDED), "not_in_source", "Run r0 last found it added"),
        (Facts(SAID, copy(None, generation=generation(origin="foreign"))), "foreign_generation", "has a document"),
        (Facts(SAID, LOST), "missing", "no run has carried it yet"),
        (Facts(SAID, LOST, [LOST, RETIRED]), "missing", "carried before"),
        (Facts(SAID, LOST, change=ADDED), "missing", "carried before"),
        (Facts(SAID, LOST, reject=REFUSED), "rejected", "mapping: bad"),
        (Facts(SAID, copy(RULED, None)), "recipe_changed", "leaves it out"),
        (Facts(SAID, copy(has_vector=False)), "without_vector", "no vector"),
        (Facts(SAID, copy(stored={**STORED, "price": 6.0, "gone": 1})), "stale", "in: gone, price."),
        (Facts(SAID, copy(stored={**STORED, "text": "red cap"})), "stale", "in: text."),
        (Facts(SAID, copy(stored={**STORED, "content_hash": "x"})), "stale", "in: content_hash."),
        (Facts(SAID, copy(), embedder_changed=True), "recipe_changed", "The recipe has changed"),
        (Facts(Said(replace(DOCUMENT, text="new")), copy()), "recipe_changed", "The recipe has changed"),
        (Facts(SAID, LOST, held=True), "missing", "is held after a rollback"),
    ],
)
def test_the_one_answer(facts: Facts, code: str, told: str) -> None:
    answer = why(facts)
    assert answer.code == code
    assert told in answer.detail


def test_what_is_well_is_well_also_while_the_catalogue_is_held() -> None:
    assert "held" not in why(Facts(SAID, copy(), held=True)).detail


@pytest.mark.parametrize(
    ("one", "agrees"),
    [
        (copy(), True),
        (copy(stored={**STORED, "price": 6.0}), False),
        (copy(stored=None), False),
        (copy(ABSENT, None), True),
        (copy(ABSENT), False),
        (copy(RULED), False),
        (copy(None), None),
        (copy(stored=None, lost=True), None),
    ],
)
def test_a_copy_agrees_when_it_is_there_as_it_should_be(one: Copy, agrees: bool | None) -> None:
    assert one.agrees is agrees


def test_differences_are_told_by_fields_not_by_hashes() -> None:
    assert differing(DOCUMENT, STORED) == []
    assert differing(DOCUMENT, {**STORED, "tags": ["a"], "content_hash": "x", "text_hash": "y"}) == ["tags"]
    assert differing(DOCUMENT, {}) == ["price", "tags", "text"]
