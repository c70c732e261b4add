"""What a run did and why, on the page: strategy, plan, counts, cost, withheld deletions; what changed in products."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.fake_api import FakeApi, change_view, counts_line, plan_view, run_view, trace_view

pytestmark = pytest.mark.browser

WITHHELD = [{"guard": "shrink", "limit": 50, "found": 1200}]


def is_live(page: Page) -> None:
    expect(page.locator("#connection")).to_have_text("Live")


def row_of(page: Page, figure: str) -> list[str]:
    head = page.get_by_role("rowheader", name=figure, exact=True)
    return page.locator("#plan-rows tr").filter(has=head).locator("td").all_inner_texts()


@pytest.mark.parametrize("choice", ["auto", "full", "repair"])
def test_a_run_is_started_with_the_chosen_strategy(page: Page, fake: FakeApi, address: str, choice: str) -> None:
    page.goto(address)
    is_live(page)
    expect(page.get_by_label("Strategy")).to_have_value("auto")
    page.get_by_label("Strategy").select_option(choice)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#run-state")).to_have_text("queued")
    ((body, _),) = fake.requests("POST", "/api/v1/sync")
    assert body == {"catalogue": "shop", "strategy": choice, "reason": "started from the page"}


def test_a_plan_is_ordered_also_while_the_catalogue_is_held(page: Page, fake: FakeApi, address: str) -> None:
    fake.catalogues["shop"].update(held=True, held_reason="rolled back")
    page.goto(address)
    is_live(page)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    page.get_by_label("Strategy").select_option("plan")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#plan-summary")).to_have_text("The plan: nothing was written")
    ((body, _),) = fake.requests("POST", "/api/v1/sync")
    assert (body["dry_run"], body["strategy"]) == (True, "auto")
    page.locator("#plan summary").click()
    assert row_of(page, "texts to embed") == ["40", "–"]
    assert row_of(page, "cost") == ["US$0.0032", "–"]
    expect(page.locator("#run-about")).to_contain_text("incremental (dry run)")


def test_a_run_shows_why_what_it_counted_and_what_was_planned(page: Page, fake: FakeApi, address: str) -> None:
    counts = {"source": 5000, "read": 5000, "added": 11, "modified": 30, "deleted": 3, "unchanged": 4942}
    counts |= {"embedded": 25, "reused": 16, "loaded": 41, "excluded": 17, "rejected": 0}
    times = {"started_at": "2026-01-05T03:00:00.000Z", "finished_at": "2026-01-05T03:00:20.000Z"}
    cost = {"tokens": 1000, "usd": 0.02}
    told = {"strategy": "incremental", "state": "ready", "plan": plan_view(), "cost": cost}
    fake.runs["run-1"] = run_view("run-1", counts=counts, **told, **times)
    page.goto(address)
    expect(page.locator("#run-why")).to_have_text("incremental: Builds on the live generation.")
    shown = ("added", "modified", "deleted", "unchanged", "embedded", "reused", "tokens", "cost")
    texts = [page.locator(f"#counts .{name} dd").inner_text() for name in shown]
    assert texts == ["11", "30", "3", "4,942", "25", "16", "1,000", "US$0.02"]
    expect(page.locator("#progress-text")).to_have_text("5,000 of 5,000 products through")
    page.locator("#plan summary").click()
    assert row_of(page, "added") == ["12", "11"]
    assert row_of(page, "rejected") == ["–", "0"]
    assert row_of(page, "time") == ["13 s", "20 s"]
    expect(page.locator("#withheld")).to_be_hidden()


def test_withheld_deletions_are_approved_by_their_number(page: Page, fake: FakeApi, address: str) -> None:
    fake.runs["run-1"] = run_view("run-1", state="ready", strategy="incremental", withheld=WITHHELD)
    page.goto(address)
    expect(page.locator("#withheld")).to_contain_text("1,200 deletions are withheld")
    page.get_by_role("button", name="Approve 1,200 deletions").click()
    dialog = page.get_by_role("dialog")
    number = dialog.get_by_label("Deletions at most")
    expect(number).to_have_value("1200")
    number.fill("")
    dialog.get_by_role("button", name="Approve and run").click()
    expect(dialog).to_be_visible()
    number.fill("1100")
    dialog.get_by_role("button", name="Approve and run").click()
    expect(page.locator("#run-state")).to_have_text("queued")
    assert [body for body, _ in fake.requests("POST", "/api/v1/runs/run-1/approve")] == [{"deletions": 1100}]
    page.get_by_role("button", name="Show run run-1").click()
    expect(page.locator("#withheld-text")).to_contain_text("Approved: run run-9 may make 1,100 of them.")
    expect(page.get_by_role("button", name="Approve 1,200 deletions")).to_be_hidden()


def test_a_refused_shrink_can_be_approved_and_a_plan_cannot(page: Page, fake: FakeApi, address: str) -> None:
    check = {"check": "shrink", "expected": "at most 50", "found": 700, "passed": False, "detail": "700 are gone."}
    fake.runs["run-0"] = run_view("run-0", state="failed", verdict={"passed": False, "checks": [check]})
    fake.runs["run-1"] = run_view("run-1", state="ready", dry_run=True, plan=plan_view(withheld=WITHHELD))
    page.goto(address)
    expect(page.locator("#withheld")).to_contain_text("1,200 deletions would be withheld")
    expect(page.locator("#approve")).to_be_hidden()
    page.get_by_role("button", name="Show run run-0").click()
    expect(page.get_by_role("button", name="Approve 700 deletions")).to_be_enabled()


def test_progress_never_runs_backwards(page: Page, fake: FakeApi, address: str) -> None:
    counts = {"source": 5000, "read": 900, "unchanged": 880, "loaded": 10}
    fake.runs["run-1"] = run_view("run-1", strategy="incremental", stage="filling", counts=counts)
    page.goto(address)
    is_live(page)
    expect(page.locator("#progress-text")).to_have_text("890 of 5,000 products through")
    line = counts_line(1000, 5000, loaded=20, unchanged=960)
    fake.say("counts", {**line, "documents": 980}, "run-1")
    expect(page.locator("#progress-text")).to_have_text("980 of 5,000 products through")
    fake.say("counts", {**line, "documents": 970, "rate": 77.0}, "run-1")
    expect(page.locator("#rate")).to_have_text("77 documents a second")
    expect(page.locator("#progress-text")).to_have_text("980 of 5,000 products through")
    fake.runs["run-1"].update(strategy="full", counts={"source": 5000, "read": 5, "loaded": 5})
    fake.say("counts", counts_line(5, 5000), "run-1")
    fake.say("note", {"plan": {}}, "run-1")
    expect(page.locator("#progress-text")).to_have_text("5 of 5,000 products through")


def test_a_change_leads_to_the_trace_of_its_product(page: Page, fake: FakeApi, address: str) -> None:
    fake.changes = [change_view("a/b c", "modified", "price", "name"), change_view("p2", "deleted")]
    fake.traces["a/b c"] = trace_view("a/b c", "stale", "The source has changed since, in: price.")
    page.goto(address)
    expect(page.locator("#change-rows tr").first).to_contain_text("price, name")
    page.get_by_role("button", name="Trace product p2").click()
    expect(page.get_by_role("alert")).to_contain_text("Not found")
    expect(page.locator("#traced")).to_be_hidden()
    page.get_by_role("button", name="Trace product a/b c").click()
    expect(page.locator("#trace-code")).to_have_text("stale")
    expect(page.locator("#trace-rows")).to_contain_text("no (price)")
    expect(page.get_by_label("Product id")).to_have_value("a/b c")
    expect(page.get_by_label("Product id")).to_be_focused()
    assert any(re.search(r"products/a(/|%2F)b", where) for how, where, *_ in fake.asked if how == "GET")
