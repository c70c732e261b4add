"""How far events are behind, and what is switched off, on the page."""

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.fake_api import FakeApi, generation_view, lag_view, run_view, trace_view

pytestmark = pytest.mark.browser


def is_live(page: Page) -> None:
    expect(page.locator("#connection")).to_have_text("Live")


def tiles(page: Page) -> dict[str, str]:
    names, figures = page.locator("#lag dt").all_inner_texts(), page.locator("#lag dd").all_inner_texts()
    return dict(zip(names, figures, strict=True))


def test_the_backlog_is_shown_and_kept_current(page: Page, fake: FakeApi, address: str) -> None:
    lag = lag_view(pending=12_345, processing=200, failed=7, withheld=30, oldest_seconds=95.0)
    fake.catalogues["shop"]["lag"] = lag
    page.goto(address)
    is_live(page)
    wanted = {"waiting": "12,345", "in hand": "200", "oldest": "95 s", "withheld": "30", "failed": "7"}
    expect(page.locator("#lag dd").first).to_have_text("12,345")
    assert tiles(page) == wanted
    expect(page.locator("#lag .alarm dt")).to_have_text(["withheld", "failed"])
    expect(page.locator("#events-about")).to_contain_text("reshelve events list")

    fake.catalogues["shop"]["lag"] = lag_view(stuck=3)
    expect(page.locator("#lag dd").first).to_have_text("0", timeout=15_000)  # before silence would make it look
    assert tiles(page) == dict.fromkeys(("waiting", "in hand", "withheld", "failed"), "0") | {
        "oldest": "–",
        "stuck": "3",
    }
    expect(page.locator("#events-about")).to_have_text("")


def test_what_is_switched_off_is_said_until_it_is_on_again(page: Page, fake: FakeApi, address: str) -> None:
    fake.catalogues["shop"].update(paused=True, projection="off")
    fake.maintenance = {"read_only": True, "message": "<b>The cluster moves.</b>"}
    page.goto(address)
    is_live(page)
    expect(page.locator("#switches li")).to_have_text(
        [
            "The service is read-only: events wait, no run starts. <b>The cluster moves.</b>",
            "Events of this catalogue are paused: they wait. Runs go on.",
            "The projection is off: searches of this service find nothing.",
        ]
    )
    page.get_by_label("Query").fill("lamp")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#search-about")).to_have_text("0 hits for “lamp” (vector, as the projection is off)")

    fake.catalogues["shop"].update(paused=False, projection="on")
    fake.maintenance = {"read_only": False, "message": None}
    expect(page.locator("#switched")).to_be_hidden()


def test_while_the_service_is_read_only_nothing_can_be_started(page: Page, fake: FakeApi, address: str) -> None:
    fake.generations = [generation_view(6, "live"), generation_view(5, "retired")]
    fake.runs["run-1"] = run_view("run-1", state="ready", withheld=[{"guard": "shrink", "limit": 50, "found": 1200}])
    fake.maintenance = {"read_only": True, "message": None}
    page.goto(address)
    is_live(page)
    buttons = ("#start", "#rollback", "#approve")
    for button in buttons:
        expect(page.locator(button)).to_be_disabled()
    fake.maintenance = {"read_only": False, "message": None}
    fake.say("note", {"text": "on again"})
    for button in buttons:
        expect(page.locator(button)).to_be_enabled()


def test_a_trace_has_the_last_event_of_its_product(page: Page, fake: FakeApi, address: str) -> None:
    event = {"status": "failed", "reason_code": "wrong_type", "received_at": "2026-01-05T03:00:00.000Z"}
    fake.traces["p1"] = {**trace_view("p1", "stale", "The source has changed since."), "last_event": event}
    page.goto(address)
    is_live(page)
    page.get_by_label("Product id").fill("p1")
    page.get_by_role("button", name="Trace", exact=True).click()
    expect(page.locator("#trace-facts")).to_contain_text("failed (wrong_type)")


def test_a_service_that_tells_of_no_events_shows_none(page: Page, fake: FakeApi, address: str) -> None:
    fake.catalogues["shop"]["lag"] = None
    page.goto(address)
    is_live(page)
    expect(page.locator("#generations")).to_be_visible()
    expect(page.locator("#events")).to_be_hidden()
