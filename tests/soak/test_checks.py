"""The checks see what they are for: each fact is made wrong by itself, and told of."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from app.models import Catalogue, Event, Generation, Run, Switch
from tests.soak.checks import Difference, differences, idle
from tests.soak.facts import Facts, Fed, Stored, Wanted
from tests.soak.journal import Journal
from tests.soak.witness import Witness, outcome

LIVE, VECTOR = "shop-20260101000000", np.ones(4, np.float32)
BODY = {"source_id": "1", "input_hash": "abc", "price": 2.5}


def entry(**other: Any) -> Event:
    row = {"seq": 1, "catalogue": "shop", "product_id": "1", "action": "upsert", "lane": "normal", "status": "done"}
    return Event(**{**row, "received_at": 10, "due_at": 10, "number": 50, **other})


def facts() -> Facts:
    """All is well."""
    row = Generation(id="g", catalogue="shop", engine="main", index=LIVE, state="live", fed=True)
    fed = Fed(row, {"1": Stored(BODY, 50, VECTOR)}, {"1": Wanted(BODY, VECTOR)})
    aliases: dict[str, Any] = {"shop-live": {}, "shop-live.switch-1": {}, f"{LIVE}.feed": {}, f"{LIVE}.sealed": {}}
    return Facts(
        catalogue=Catalogue(
            name="shop",
            tenant="t",
            spec={"source": {"index": "shop"}},
            engine="main",
            alias="shop-live",
            number=60,
            switch_number=1,
        ),
        source={},
        fed=[fed],
        generations=[row],
        events=[entry()],
        runs=[Run(id=one, catalogue="shop", strategy="full", state="ready") for one in ("r1", "r2")],
        switches=[Switch(catalogue="shop", number=0, kind="promotion", state="moved", to_generation="g")],
        indices={LIVE: {"aliases": aliases, "settings": {"index": {}}}},
        contexts={LIVE: 0},
    )


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "soak.jsonl")
    made.say("told", since=40, notices=[{"product_id": "1", "id": "a"}], answer={"accepted": 1})
    yield made
    made.close()


def found(told: Facts, journal: Journal, seen: Event | None = None) -> list[Difference]:
    witness = Witness(cast(Any, None), "shop")  # it looks at nothing here
    first = seen or told.events[0]
    witness.seen[first.seq or 0] = outcome(first)
    return differences(told, journal, witness)


def stored(**other: Any) -> Callable[[Facts], Facts]:
    """The live generation holds something else of the product."""

    def wrong(told: Facts) -> Facts:
        (fed,) = told.fed
        return replace(told, fed=[replace(fed, stored={"1": replace(fed.stored["1"], **other)})])

    return wrong


def held(ids: dict[str, Stored]) -> Callable[[Facts], Facts]:
    return lambda told: replace(told, fed=[replace(told.fed[0], stored=ids)])


def index(**other: Any) -> Callable[[Facts], Facts]:
    return lambda told: replace(told, indices={LIVE: {**told.indices[LIVE], **other}})


def draft(told: Facts) -> Facts:
    row = Generation(id="h", catalogue="shop", engine="main", index="shop-20260101000001", state="draft")
    return replace(told, generations=[*told.generations, row])


def unfed(told: Facts) -> Facts:
    """There is something to roll back to, and events pass it by."""
    row = Generation(
        id="h", catalogue="shop", engine="main", index="shop-20251231000000", state="retired", origin="own", fed=False
    )
    return replace(told, generations=[*told.generations, row])


def run(**other: Any) -> Callable[[Facts], Facts]:
    row = {"id": "r3", "catalogue": "shop", "strategy": "full", "state": "failed", **other}
    return lambda told: replace(told, runs=[*told.runs, Run(**row)])


WRONG: dict[str, tuple[str, Callable[[Facts], Facts]]] = {
    "a document is missing": ("documents", held({})),
    "a stranger": ("documents", held({"1": Stored(BODY, 50, VECTOR), "2": Stored(BODY, 50, VECTOR)})),
    "an older state": ("documents", stored(source={**BODY, "input_hash": "old"})),
    "another price": ("documents", stored(source={**BODY, "price": 2.0})),
    "no vector": ("documents", stored(vector=None)),
    "the vector of another text": ("documents", stored(vector=-VECTOR)),
    "a version from nowhere": ("documents", stored(version=61)),
    "nothing is live": ("documents", lambda told: replace(told, fed=[])),
    "what one could roll back to is forgotten": ("window", unfed),
    "an entry waits": ("outbox", lambda told: replace(told, events=[entry(), entry(seq=2, status="pending")])),
    "an entry failed": ("outbox", lambda told: replace(told, events=[entry(), entry(seq=2, status="failed")])),
    "a notice without an entry": ("outbox", lambda told: replace(told, events=[entry(product_id="2")])),
    "claimed before it was told": ("outbox", lambda told: replace(told, events=[entry(number=39)])),
    "readers have nothing": ("alias", index(aliases={f"{LIVE}.feed": {}})),
    "a number that was spent": (
        "alias",
        index(aliases={"shop-live": {}, "shop-live.switch-1": {}, "shop-live.switch-0": {}, f"{LIVE}.feed": {}}),
    ),
    "a switch is open": (
        "alias",
        lambda told: replace(told, switches=[Switch(catalogue="shop", number=1, kind="rollback", to_generation="g")]),
    ),
    "a draft": ("leftovers", draft),
    "a write block": ("leftovers", index(settings={"index": {"blocks": {"write": "true"}}})),
    "a point in time": ("points", lambda told: replace(told, contexts={LIVE: 1})),
    "a point in time of the shop": ("leftovers", lambda told: replace(told, contexts={"shop": 1})),
    "an index of nobody": (
        "leftovers",
        lambda told: replace(
            told, indices={**told.indices, "shop-20260101000001": {"aliases": {}, "settings": {"index": {}}}}
        ),
    ),
    "a run that is not over": ("endings", run(state="running")),
    "a refusal": ("endings", run(error={"code": "verdict_refused"})),
    "a refusal for two reasons": (
        "endings",
        run(error={"code": "refused", "findings": [{"code": "source_empty"}, {"code": "no_disk"}]}),
    ),
}


def test_where_all_is_well_nothing_differs(journal: Journal) -> None:
    assert found(facts(), journal) == []


@pytest.mark.parametrize(("check", "wrong"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_by_its_check(journal: Journal, check: str, wrong: Callable[[Facts], Facts]) -> None:
    assert {one.check for one in found(wrong(facts()), journal)} == {check}


def test_another_outcome_than_before_is_told(journal: Journal) -> None:
    assert [one.check for one in found(facts(), journal, entry(deleted=True))] == ["outcomes"]


def test_a_notice_that_was_sent_again_counts_from_its_first_time(journal: Journal) -> None:
    journal.say("told", since=90, notices=[{"product_id": "1", "id": "a"}], answer={"duplicates": 1})
    assert found(facts(), journal) == []
    journal.say("told", since=90, notices=[{"product_id": "1"}], answer={"accepted": 1})
    assert [one.check for one in found(facts(), journal)] == ["outbox"]


def test_a_run_may_end_as_others_want_it(journal: Journal) -> None:
    assert found(run(state="canceled", error={"code": "canceled"})(facts()), journal) == []
    gone = [
        {"code": "source_empty"},
        {"code": "engine_unavailable", "detail": "Would not open a point in time on shop-v9."},
    ]
    assert found(run(error={"code": "refused", "findings": gone})(facts()), journal) == []


def test_a_soak_without_runs_proves_nothing() -> None:
    assert idle(facts()) == []
    assert [one.check for one in idle(replace(facts(), runs=facts().runs[:1]))] == ["endings"]
