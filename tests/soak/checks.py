"""What must hold at the end, each as a function from the facts to differences; none is what everything is about.

- `documents`: every generation that events reach holds what its recipe makes of the shop: ids, hashes, text, fields,
  vectors; and nothing else
- `outbox`: nothing waits, nothing failed; each accepted notice was followed by a claim that ended as done
- `outcomes`: what was done once was not done otherwise later
- `alias`: readers have one index, the one that the database says, with its number; others have no such alias
- `leftovers`: no draft, no point in time, no write block, no alias of a filling, no index that nobody knows
- `endings`: runs ended as runs may while all this goes on
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.sync.words import feed_of
from tests.soak.facts import Facts, Fed, Stored, Wanted, is_over, same_vector, token
from tests.soak.journal import Journal
from tests.soak.witness import Witness

MAY_END = frozenset({
    "canceled", "interrupted", "worker_lost", "rolled_back_meanwhile", "switch_spent", "source_gone", "source_empty",
    "recipe_changed", "outgrown",
})  # fmt: skip
"""How runs may fail in a soak: cancelled, stopped with their worker, undone by a rollback, or the shop's index went or
was empty at that moment; a repair also where another recipe was declared or where it would be a rebuild."""

OURS = frozenset({"updated_at", "embedding"})
"""Fields that are told apart elsewhere, or not at all."""


@dataclass(frozen=True)
class Difference:
    """Something that should not be; of a product when *product* is told."""

    check: str
    what: str
    product: str | None = None


def differences(facts: Facts, journal: Journal, witness: Witness) -> list[Difference]:
    """All of them."""
    checks: Sequence[Callable[[Facts], Iterable[Difference]]] = (documents, window, outbox, alias, leftovers, endings)
    found = [one for check in checks for one in check(facts)]
    found += unanswered(facts, told_last(journal))
    rows = {row.seq or 0: row for row in facts.events}
    return [*found, *(Difference("outcomes", why) for why in witness.differing(rows))]


# --- documents -------------------------------------------------------------------------------------------------------


def documents(facts: Facts) -> Iterator[Difference]:
    """Each generation that events reach."""
    if not any(fed.row.state == "live" for fed in facts.fed):
        yield Difference("documents", "no live generation is fed")
    for fed in facts.fed:
        for one in sorted({*fed.wanted, *fed.stored}):
            why = differing(fed.stored.get(one), fed.wanted.get(one))
            if why:
                yield Difference("documents", f"{fed.row.state} {fed.row.index}: {why}", one)
        yield from _unborn(facts, fed)


def window(facts: Facts) -> Iterator[Difference]:
    """What one could roll back to is fed: nothing refuses for so long here that it is given up."""
    there = any(row.state == "retired" and row.origin == "own" for row in facts.generations)
    if there and not any(fed.row.state == "retired" for fed in facts.fed):
        yield Difference("window", "no generation that one could roll back to is fed")


def differing(stored: Stored | None, wanted: Wanted | None) -> str:
    """In what a stored document is not what it should be; empty when it is."""
    if stored is None:
        return "is missing"
    if wanted is None:
        return f"should not be there (version {stored.version})"
    names = sorted({*stored.source, *wanted.fields} - OURS)
    wrong = [
        f"{name} is {stored.source.get(name)!r:.60} and should be {wanted.fields.get(name)!r:.60}"
        for name in names
        if stored.source.get(name) != wanted.fields.get(name)
    ]
    wrong += [] if same_vector(stored.vector, wanted.vector) else ["its vector is not that of its text"]
    return f"(version {stored.version}) " + "; ".join(wrong) if wrong else ""


def _unborn(facts: Facts, fed: Fed) -> Iterator[Difference]:
    for one, stored in fed.stored.items():
        if stored.version > facts.catalogue.number:
            yield Difference("documents", f"{fed.row.index}: version {stored.version} was never given out", one)


# --- outbox ----------------------------------------------------------------------------------------------------------


def outbox(facts: Facts) -> Iterator[Difference]:
    """Entries that are not done."""
    for row in facts.events:
        if row.status != "done":
            yield Difference("outbox", f"entry {row.seq} is {row.status} ({row.reason_code})", row.product_id)


def told_last(journal: Journal) -> Mapping[str, int]:
    """When the newest accepted notice of each product was on its way, in ms; repeats under its id do not count."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for line in journal.lines("told"):
        for notice in line["notices"]:
            since = first.setdefault(notice["id"], line["since"]) if "id" in notice else line["since"]
            last[notice["product_id"]] = max(last.get(notice["product_id"], 0), since)
    return last


def unanswered(facts: Facts, told: Mapping[str, int]) -> Iterator[Difference]:
    """Accepted minus applied: products of which something was told, and no later claim of which ended as done."""
    done: dict[str, int] = {}
    for row in facts.events:
        if row.status == "done":
            done[row.product_id] = max(done.get(row.product_id, 0), row.number or 0)
    for product, since in told.items():
        if done.get(product, 0) < since:
            yield Difference("outbox", f"told of at {since}, last claimed under {done.get(product)}", product)


# --- the rest --------------------------------------------------------------------------------------------------------


def alias(facts: Facts) -> Iterator[Difference]:
    """Where readers are."""
    named, live = facts.catalogue.alias, [row.index for row in facts.generations if row.state == "live"]
    for name in (named, token(facts.catalogue)):
        behind = [index for index, told in facts.indices.items() if name in told["aliases"]]
        if behind != live or len(live) != 1:
            yield Difference("alias", f"{name} is on {behind}; live: {live}")
    spent = [name for told in facts.indices.values() for name in told["aliases"] if name.startswith(f"{named}.switch-")]
    if len(spent) != 1:
        yield Difference("alias", f"more than one number of a switch: {spent}")
    if facts.catalogue.held or any(switch.state == "open" for switch in facts.switches):
        yield Difference("alias", "the catalogue is held, or a switch is open")


def leftovers(facts: Facts) -> Iterator[Difference]:
    """What should have been cleaned away."""
    kept = {row.index: row for row in facts.generations if row.state in ("live", "retired", "refused")}
    for row in facts.generations:
        if row.state in ("draft", "sealed"):
            yield Difference("leftovers", f"{row.index} still is {row.state}")
    for index, told in facts.indices.items():
        if index not in kept:
            yield Difference("leftovers", f"index {index} is no generation that is kept")
        yield from _left_on(index, told, is_fed=any(fed.row.index == index for fed in facts.fed))
    for index, count in facts.contexts.items():
        if count:
            check = "points" if index in facts.indices else "leftovers"
            yield Difference(check, f"{count} points in time are open on {index}")


def _left_on(index: str, told: Mapping[str, Any], *, is_fed: bool) -> Iterator[Difference]:
    if "true" in (blocks := told["settings"]["index"].get("blocks", {})).values():
        yield Difference("leftovers", f"{index} has the blocks {blocks}")
    if filling := [name for name in told["aliases"] if ".fill-" in name]:
        yield Difference("leftovers", f"{index} still has {filling}")
    if is_fed and feed_of(index) not in told["aliases"]:
        yield Difference("leftovers", f"{index} is fed and has no alias for that")


def endings(facts: Facts) -> Iterator[Difference]:
    """How runs ended."""
    for run in facts.runs:
        if not is_over(run):
            yield Difference("endings", f"run {run.id} is {run.state}")
        elif run.state != "ready" and not _may_end(facts, run.error or {}):
            yield Difference("endings", f"run {run.id} ({run.strategy}) {run.state}: {run.error}")


def _may_end(facts: Facts, error: Mapping[str, Any]) -> bool:
    """A refusal with several findings is as good as the worst of them."""
    told = error.get("findings") or [error] if error.get("code") == "refused" else [error]
    return all(one.get("code") in MAY_END or _lost_shop(facts, one) for one in told)


def _lost_shop(facts: Facts, error: Mapping[str, Any]) -> bool:
    """What engines say of a shop's index that is deleted while it is asked, where they do not say that it is gone."""
    shop = facts.catalogue.spec.get("source", {}).get("index", "?")
    return error.get("code") == "engine_unavailable" and f" {shop}-v" in error.get("detail", "")


def idle(facts: Facts) -> list[Difference]:
    """A soak in which no run came to its end but the first proves nothing; one with kills may be like that."""
    busy = any(run.state == "ready" for run in facts.runs[1:])
    return [] if busy else [Difference("endings", "no run but the first came to its end")]
