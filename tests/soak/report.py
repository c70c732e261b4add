"""A report that lets one find the hole: for each product that differs, its whole life beside the runs'."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.columns import iso
from app.models import Event, Generation, Run
from tests.soak.checks import Difference
from tests.soak.facts import Facts
from tests.soak.journal import Journal

TOLD = 10
"""Products whose life is told."""


def report(facts: Facts, found: Sequence[Difference], journal: Journal) -> dict[str, Any]:
    """Everything, as one JSON document."""
    products = list(dict.fromkeys(one.product for one in found if one.product is not None))[:TOLD]
    return {
        "differences": [{"check": one.check, "product": one.product, "what": one.what} for one in found],
        "products": {product: life(facts, journal, product) for product in products},
        "generations": [_generation(row) for row in facts.generations],
        "switches": [row.model_dump(mode="json") for row in facts.switches],
        "runs": [_run(run) for run in facts.runs],
        "turmoil": list(journal.lines("begins", "ends", "refused", "declared")),
    }


def life(facts: Facts, journal: Journal, product: str) -> dict[str, Any]:
    """One product: in the shop, in each generation, in the outbox, and what was done to it."""
    shop = facts.source.get(product)
    return {
        "shop": None if shop is None else {name: shop.source.get(name) for name in SHOWN},
        "held": {f"{fed.row.state} {fed.row.index}": _held(fed.stored.get(product)) for fed in facts.fed},
        "wanted_hash": {fed.row.index: _hash(fed.wanted.get(product)) for fed in facts.fed},
        "entries": [_entry(row) for row in facts.events if row.product_id == product],
        "journal": journal.of_product(product),
    }


SHOWN = ("name", "price_0_1", "is_out_of_stock", "status", "visibility")


def _held(stored: Any) -> Any:
    if stored is None:
        return None
    shown = {name: stored.source.get(name) for name in ("name", "price", "input_hash", "updated_at")}
    return {"version": stored.version, **shown}


def _hash(wanted: Any) -> Any:
    return wanted and wanted.fields["input_hash"]


def _entry(row: Event) -> dict[str, Any]:
    return row.model_dump(exclude={"catalogue", "product_id", "worker", "lease_until"}, exclude_none=True)


def _generation(row: Generation) -> dict[str, Any]:
    return row.model_dump(mode="json", include=set(GENERATION.split()))


GENERATION = "id index state fed since documents created_by cloned_from created_at live_since retired_at stale_since"


def _run(run: Run) -> dict[str, Any]:
    told: Mapping[str, Any] = {name: iso(getattr(run, name)) for name in ("requested_at", "started_at", "finished_at")}
    error = (run.error or {}).get("code")
    same = {name: getattr(run, name) for name in ("id", "strategy", "state", "stage", "number", "generation", "fence")}
    return {**same, **told, "error": error, "counts": run.counts}


def summary(facts: Facts, found: Sequence[Difference], journal: Journal) -> dict[str, Any]:
    """What the soak was: how much of everything."""
    acts = _counted(line["act"] for line in journal.lines("change"))
    told = list(journal.lines("told"))
    answers = {
        name: sum(line["answer"].get(name, 0) for line in told) for name in ("accepted", "coalesced", "duplicates")
    }
    ends = _counted(f"{run.strategy} {(run.error or {}).get('code', run.state)}" for run in facts.runs)
    return {
        "differences": len(found),
        "products": len(facts.source),
        "generations_compared": {fed.row.state: len(fed.stored) for fed in facts.fed},
        "changes": acts,
        "events": answers,
        "entries": len(facts.events),
        "runs": ends,
        "switches": _counted(f"{one.kind} {one.state}" for one in facts.switches),
        "refused": _counted(line["code"] for line in journal.lines("refused")),
    }


def _counted(names: Iterator[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))
