"""The page at `/` in a real browser, against somebody who plays the API."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.fake_api import (
    FakeApi,
    change_view,
    counts_line,
    figures,
    generation_view,
    plan_view,
    problem,
    run_view,
    trace_view,
)

pytestmark = pytest.mark.browser

STREAM = "/api/v1/catalogues/shop/stream"
STAGES = ("planning", "filling", "sealing", "verifying", "promoting", "cleaning")
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


def is_live(page: Page) -> None:
    expect(page.locator("#connection")).to_have_text("Live")


def with_a_run(fake: FakeApi) -> None:
    fake.runs["run-1"] = run_view("run-1", stage="filling", counts={"source": 5000, "read": 10})


def test_a_full_sync_is_started_followed_and_proved(page: Page, fake: FakeApi, address: str) -> None:
    page.goto(address)
    is_live(page)
    expect(page.locator("#run-state")).to_have_text("none yet")
    page.get_by_label("Strategy").select_option("full")
    page.get_by_role("button", name="Start", exact=True).click()
    fake.wait_for(lambda: fake.requests("POST", "/api/v1/sync"))
    ((body, headers),) = fake.requests("POST", "/api/v1/sync")
    assert body == {"catalogue": "shop", "strategy": "full", "reason": "started from the page"}
    assert re.fullmatch(r"[0-9a-f]{32}", headers["idempotency-key"])
    expect(page.locator("#run-state")).to_have_text("queued")
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()

    fake.runs["run-9"].update(state="running", stage="filling")
    fake.say("stage", {"stage": "filling"}, "run-9")
    expect(page.locator("#run-state")).to_have_text("running")
    fake.say("counts", counts_line(1200, 5000, rejected=3, excluded=17), "run-9")
    expect(page.locator("#progress-text")).to_have_text("1,200 of 5,000 products through")
    expect(page.locator("#rate")).to_have_text("1,235 documents a second")
    expect(page.locator("#remaining")).to_have_text("about 42 s left")
    expect(page.locator("#counts .rejected dd")).to_have_text("3")
    expect(page.locator("#stages [aria-current=step]")).to_contain_text("filling")
    expect(page.locator("#stages .now")).to_contain_text("6.5 s")
    expect(page.locator("#spoken")).to_have_text("Run is filling.")

    checks = [{"check": "count", "expected": 4980, "found": 4980, "passed": True, "detail": ""}]
    stages = [{"stage": stage, **figures(1.0), "steps": {}} for stage in STAGES]
    fake.runs["run-9"].update(state="ready", stage=None, verdict={"passed": True, "checks": checks}, stages=stages)
    fake.generations = [generation_view(5, "live")]
    fake.say("state", {"state": "ready"}, "run-9")
    expect(page.locator("#run-state")).to_have_text("ready")
    expect(page.locator("#verdict-summary")).to_have_text("Verdict: passed, 1 checks")
    expect(page.locator("#stages .done")).to_have_count(6)
    expect(page.locator("#rate")).to_have_text("")
    expect(page.locator("#generation-rows .is-live")).to_contain_text("shop-20260105030000")


def test_after_a_broken_connection_the_story_goes_on_without_a_gap(page: Page, fake: FakeApi, address: str) -> None:
    with_a_run(fake)
    page.goto(address)
    is_live(page)
    fake.say("counts", counts_line(100, 5000), "run-1")
    fake.say("counts", counts_line(200, 5000), "run-1")
    expect(page.locator("#progress-text")).to_have_text("200 of 5,000 products through")
    fake.hang_up()
    fake.wait_for(lambda: any(headers.get("last-event-id") == "2" for _, headers in fake.requests("GET", STREAM)))
    fake.say("counts", counts_line(300, 5000), "run-1")
    expect(page.locator("#progress-text")).to_have_text("300 of 5,000 products through")
    is_live(page)


def test_when_the_service_is_gone_nothing_old_is_shown_as_current(page: Page, fake: FakeApi) -> None:
    with_a_run(fake)
    with fake.up() as address:
        page.goto(address)
        is_live(page)
        fake.say("counts", counts_line(200, 5000), "run-1")
        expect(page.locator("#rate")).to_have_text("1,235 documents a second")
    expect(page.locator("#connection")).to_have_text("Connection lost, trying again")
    expect(page.locator("#stale")).to_contain_text("Not current: this is what was known at")
    expect(page.locator("#rate")).to_have_text("")
    fake.runs["run-1"].update(state="failed", error={"code": "source_gone", "detail": "The source index was deleted."})
    with fake.up():
        is_live(page)
        expect(page.locator("#stale")).to_be_hidden()
        expect(page.locator("#run-error")).to_contain_text("source_gone")
        expect(page.locator("#run-error")).to_contain_text("The source index was deleted.")


def test_a_refused_stream_is_opened_anew_behind_the_last_line(page: Page, fake: FakeApi, address: str) -> None:
    with_a_run(fake)
    page.goto(address)
    is_live(page)
    fake.say("counts", counts_line(200, 5000), "run-1")
    expect(page.locator("#progress-text")).to_have_text("200 of 5,000 products through")
    fake.stream_status = 502
    fake.hang_up()
    expect(page.locator("#connection")).to_have_text("Connection lost, trying again")
    fake.say("counts", counts_line(400, 5000), "run-1")
    fake.stream_status = 200
    is_live(page)
    expect(page.locator("#progress-text")).to_have_text("400 of 5,000 products through")


@pytest.mark.parametrize("event", ["bye", "resync"])
def test_after_bye_and_resync_everything_is_fetched(page: Page, fake: FakeApi, address: str, event: str) -> None:
    with_a_run(fake)
    page.goto(address)
    is_live(page)
    fake.runs["run-1"].update(state="ready")
    fake.send_event(event)
    expect(page.locator("#run-state")).to_have_text("ready")
    is_live(page)


def test_a_stream_that_is_silent_for_long_is_not_believed(page: Page, fake: FakeApi, address: str) -> None:
    page.clock.install()
    with_a_run(fake)
    page.goto(address)
    is_live(page)
    expect(page.locator("#run-state")).to_have_text("running")
    fake.runs["run-1"].update(state="canceled")
    fake.lines.append({"seq": 1, "kind": "state", "run": "run-1", "data": {}})
    page.clock.fast_forward(26_000)
    expect(page.locator("#run-state")).to_have_text("canceled")
    tries = 0
    while not fake.met(lambda: len(fake.requests("GET", STREAM)) > 1, 2):
        page.clock.fast_forward(2_000)  # it waits before it opens anew, from whenever it has seen the answer
        assert (tries := tries + 1) < 10
    is_live(page)


def test_cancel_asks_first(page: Page, fake: FakeApi, address: str) -> None:
    with_a_run(fake)
    page.goto(address)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Leave it").click()
    page.get_by_role("button", name="Cancel").click()
    page.keyboard.press("Escape")
    expect(page.locator("#ask")).to_be_hidden()
    assert fake.requests("POST", "/api/v1/runs/run-1/cancel") == []
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#run-state")).to_have_text("canceled")
    expect(page.get_by_role("button", name="Cancel")).to_be_disabled()


def test_roll_back_says_from_and_to_then_holds_until_released(page: Page, fake: FakeApi, address: str) -> None:
    fake.generations = [generation_view(7, "retired"), generation_view(6, "live"), generation_view(5, "retired")]
    fake.generations.append(generation_view(4, "retired", stale_since="2026-01-05T00:00:00.000Z"))
    page.goto(address)
    page.get_by_role("button", name="Roll back").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("From shop-20260106030000")
    expect(dialog.get_by_label("To").locator("option:checked")).to_contain_text("shop-20260105030000")
    dialog.get_by_label("To").select_option("g4")
    expect(dialog).to_contain_text("It is no longer fed: changes since 5 Jan 2026")
    dialog.get_by_label("To").select_option("g5")
    dialog.get_by_role("button", name="Roll back").click()
    expect(page.locator("#generation-rows .is-live")).to_contain_text("shop-20260105030000")
    ((asked, _),) = fake.requests("POST", "/api/v1/catalogues/shop/rollback")
    assert asked == {"to": "g5", "stale": False}
    expect(page.locator("#held")).to_contain_text("rolled back by night-shift")
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    page.get_by_role("button", name="Release").click()
    expect(page.locator("#held")).to_be_hidden()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()


def test_hostile_names_are_text(page: Page, fake: FakeApi, address: str) -> None:
    checks = [{"check": HOSTILE, "expected": HOSTILE, "found": {"a": HOSTILE}, "passed": False, "detail": HOSTILE}]
    fake.catalogues["shop"].update(held=True, held_reason=HOSTILE, target={"alias": HOSTILE})
    told = {"reason": HOSTILE, "requested_by": HOSTILE, "error": {"code": HOSTILE, "detail": HOSTILE}}
    verdict = {"passed": False, "checks": checks}
    fake.runs["run-1"] = run_view("run-1", state="failed", counts={"rejected": 1}, verdict=verdict, **told)
    model = {"name": HOSTILE, "dims": 3}
    fake.generations = [generation_view(1, "live", index=HOSTILE, embedder=model), generation_view(2, "retired")]
    fake.rejects = [{"product_id": HOSTILE, "by": "data", "code": HOSTILE, "detail": HOSTILE}]
    fake.runs["run-1"]["plan"] = plan_view(why=HOSTILE, strategy=HOSTILE)
    fake.changes = [change_view(HOSTILE, HOSTILE, HOSTILE)]
    fake.traces["p1"] = trace_view(HOSTILE, HOSTILE, HOSTILE)
    fake.hits = [{"id": HOSTILE, "score": 1.0, "document": {"name": [HOSTILE], "sku": HOSTILE, "text": HOSTILE}}]
    refusal = problem(409, HOSTILE, HOSTILE, errors=[{"where": HOSTILE, "why": HOSTILE}])
    fake.refusals["POST /api/v1/catalogues/shop/release"] = refusal
    page.goto(address)
    page.get_by_label("Query").fill(HOSTILE)
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#hits")).to_contain_text(HOSTILE)
    page.locator("#rejects summary").click()
    expect(page.locator("#reject-rows")).to_contain_text(HOSTILE)
    expect(page.locator("#run-why")).to_contain_text(HOSTILE)
    expect(page.locator("#change-rows td").nth(1)).to_have_text(HOSTILE)
    page.get_by_label("Product id").fill("p1")
    page.get_by_role("button", name="Trace", exact=True).click()
    expect(page.locator("#trace-facts")).to_contain_text(HOSTILE)
    page.get_by_role("button", name="Release").click()
    expect(page.locator("#problem")).to_contain_text(HOSTILE)
    expect(page.locator("#checks")).to_contain_text(HOSTILE)
    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_role("dialog")).to_contain_text(HOSTILE)
    assert page.locator("img").count() == 1
    assert page.title() == "Reshelve"


def test_a_token_is_asked_for_when_one_is_needed(page: Page, fake: FakeApi, address: str) -> None:
    fake.token = "let-me-in"
    with_a_run(fake)
    page.goto(address)
    page.get_by_label("Token", exact=True).fill("wrong")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#login-problem")).to_have_text("Not authenticated: This token is not known.")
    page.get_by_label("Token", exact=True).fill("let-me-in")
    page.keyboard.press("Enter")
    is_live(page)
    expect(page.locator("#login")).to_be_hidden()
    expect(page.locator("#run-state")).to_have_text("running")
    fake.token = "the-next-one"
    fake.hang_up()
    expect(page.get_by_label("Token", exact=True)).to_be_visible()
    page.get_by_label("Token", exact=True).fill("the-next-one")
    page.keyboard.press("Enter")
    is_live(page)


def test_what_the_service_refuses_is_shown_with_every_finding(page: Page, fake: FakeApi, address: str) -> None:
    findings = [{"where": "source.index", "why": "does not exist"}, {"where": "target.alias", "why": "is an index"}]
    refusal = problem(422, "Refused before anything was built", "See errors.", errors=findings)
    fake.refusals["POST /api/v1/sync"] = refusal
    page.goto(address)
    page.get_by_role("button", name="Start", exact=True).click()
    shown = page.get_by_role("alert")
    expect(shown).to_contain_text("Refused before anything was built")
    expect(shown).to_contain_text("source.index: does not exist")
    expect(shown).to_contain_text("target.alias: is an index")
    expect(shown).to_contain_text("Request req-1")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator("#problem")).to_be_hidden()


def test_rejects_come_in_pages_and_an_older_run_can_be_looked_at(page: Page, fake: FakeApi, address: str) -> None:
    counts = {"source": 70, "read": 70, "loaded": 10, "excluded": 20, "rejected": 40}
    fake.runs["run-0"] = run_view("run-0", state="ready", counts=counts)
    error = {"code": "engine_unavailable", "detail": "No answer."}
    fake.runs["run-1"] = run_view("run-1", state="failed", stage="planning", error=error)
    fake.rejects = [{"product_id": f"p{n}", "by": "data", "code": "not_a_number", "detail": "price"} for n in range(60)]
    page.goto(address)
    expect(page.locator("#run-error")).to_contain_text("engine_unavailable")
    page.get_by_role("button", name="Show run run-0").click()
    expect(page.locator("#run-state")).to_have_text("ready")
    expect(page.locator("#rejects-summary")).to_have_text("Left out: 20 by rule, 40 by data or engine")
    page.locator("#rejects summary").click()
    expect(page.locator("#reject-rows tr")).to_have_count(50)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#reject-rows tr")).to_have_count(60)
    page.get_by_role("button", name="Back to the latest run").click()
    expect(page.locator("#run-state")).to_have_text("failed")


def test_another_catalogue_is_followed_once_it_is_picked(page: Page, fake: FakeApi, address: str) -> None:
    fake.catalogues["other"] = {"target": {"alias": "other-live"}, "held": False}
    page.goto(address)
    is_live(page)
    page.get_by_label("Catalogue").select_option("other")
    expect(page.locator("#alias")).to_have_text("alias other-live")
    fake.wait_for(lambda: fake.requests("GET", "/api/v1/catalogues/other/stream"))
    page.reload()
    expect(page.get_by_label("Catalogue")).to_have_value("other")


def test_without_a_catalogue_the_page_says_how_to_declare_one(page: Page, fake: FakeApi, address: str) -> None:
    fake.catalogues.clear()
    page.goto(address)
    expect(page.locator("#empty")).to_contain_text("reshelve catalogues apply -f catalogue.json --name shop")
    expect(page.locator("#run")).to_be_hidden()
