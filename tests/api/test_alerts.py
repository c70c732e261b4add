"""What the alert rules look at is there, with the labels they name, on a running service's `/metrics`."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import telemetry
from app.models import Run
from app.sync.apply import Failed
from tests.api.conftest import Service

pytestmark = pytest.mark.anyio

RULES = Path(__file__).parents[2] / "deploy" / "alerts.yml"
SELECTOR = re.compile(r"\b(reshelve_\w+)(?:\{([^}]*)\})?")


def selectors() -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Each figure of a rule, with the labels that it must have."""
    found = set()
    for line in RULES.read_text().splitlines():
        if not line.lstrip().startswith(("#", "summary:", "runbook:")):
            for name, labels in SELECTOR.findall(line):
                found.add((name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))))
    return found


async def samples(service: Service) -> list[tuple[str, dict[str, str], float]]:
    answer = await service.client.get("/metrics")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    return [(one.name, one.labels, one.value) for family in families for one in family.samples]


async def something_of_all(service: Service) -> None:
    """Of what is counted only when it happens, let something happen."""
    service.parts.connections.breaker("engine:main")
    telemetry.events_settled("shop", {"p1": 1.0}, {"p1": Failed("bad_value", "price")})
    telemetry.run_finished(Run(id="r1", catalogue="shop", strategy="full", state="failed"))
    ended = {"catalogue": "shop", "strategy": "full", "requested_by": "tester", "finished_at": datetime.now(UTC)}
    async with service.parts.db.writing() as session:
        session.add(Run(id="r2", state="ready", **ended))


async def test_every_figure_that_a_rule_names_is_exposed_with_its_labels(shop: Service) -> None:
    await something_of_all(shop)
    there = await samples(shop)
    for name, wanted in selectors():
        fits = [labels for one, labels, _ in there if one == name and wanted <= labels.items()]
        assert fits, (name, wanted)


async def test_rules_that_tell_catalogues_apart_look_at_figures_that_do(shop: Service) -> None:
    await something_of_all(shop)
    labels = {name: set(found) for name, found, _ in await samples(shop)}
    grouped = re.findall(r"by \(([\w, ]+)\) \(\s*\(?(reshelve_\w+)", RULES.read_text())
    assert len(grouped) > 8
    for names, figure in grouped:
        assert set(names.split(", ")) <= labels[figure], figure


async def test_a_catalogue_without_events_shows_zeros_and_one_with_them_what_waits(shop: Service) -> None:
    def waiting(there: list[tuple[str, dict[str, str], float]]) -> list[float]:
        wanted = {"catalogue": "shop", "state": "pending"}
        return [value for name, labels, value in there if (name, labels) == ("reshelve_events", wanted)]

    assert waiting(await samples(shop)) == [0]
    told = {"events": [{"product_id": "p1"}, {"product_id": "p2"}]}
    assert (await shop.client.post("/api/v1/catalogues/shop/events", json=told)).status_code == 202
    assert waiting(await samples(shop)) == [2]


async def test_a_breaker_that_opened_is_seen(shop: Service) -> None:
    breaker = shop.parts.connections.breaker("engine:main")
    while not breaker.is_open:
        call = breaker.enter()
        assert call is not None
        call.failed()
    assert ("reshelve_breaker_open", {"dependency": "engine:main"}, 1.0) in await samples(shop)
