"""The page on the real service with a real engine: what an owner does on the first day, and what a night brings."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from engines.programs import find_nginx
from tests.e2e.nginx import nginx
from tests.e2e.served import Served, a_shop, served
from tests.embedding_server import EmbeddingServer

pytestmark = [pytest.mark.browser, pytest.mark.engine]

COUNT = 1_200
TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def shop(elasticsearch9: str) -> Iterator[str]:
    with a_shop(elasticsearch9, COUNT) as alias:
        yield alias


@pytest.fixture
def service(elasticsearch9: str, shop: str, tmp_path: Path) -> Iterator[Served]:
    with served(elasticsearch9, shop, tmp_path) as here:
        here.declare()
        yield here


@pytest.fixture
def slow(elasticsearch9: str, shop: str, tmp_path: Path) -> Iterator[Served]:
    """Its embedder takes its time, so that a run can be watched."""
    with EmbeddingServer() as embedder:
        embedder.delay = 3.0
        embedder.always("slow")
        settings = {"OPENAI_BASE_URL": embedder.url, "OPENAI_API_KEY": "sk-test", "RESHELVE_EMBEDDING_CONCURRENCY": "1"}
        with served(elasticsearch9, shop, tmp_path, **settings) as here:
            here.declare(embedder={"provider": "openai", "model": "small", "dims": 64})
            yield here
            embedder.always("ok")


def is_live(page: Page) -> None:
    expect(page.locator("#connection")).to_have_text("Live")


def test_the_first_day(page: Page, service: Served) -> None:
    page.goto(service.address)
    is_live(page)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#run-state")).to_have_text("ready", timeout=60_000)
    expect(page.locator("#verdict-summary")).to_contain_text("Verdict: passed")
    expect(page.locator("#stages .done")).to_have_count(6)
    expect(page.locator("#progress-text")).to_have_text(f"{COUNT:,} of {COUNT:,} products through")
    page.locator("#rejects summary").click()
    expect(page.locator("#reject-rows tr").first).to_contain_text("rule")
    first = page.locator("#generation-rows .is-live th").inner_text()

    page.get_by_label("Query").fill("something warm to wear on a freezing morning")
    for mode in ("vector", "lexical"):
        page.get_by_label("Mode").select_option(mode)
        page.get_by_role("button", name="Search").click()
        expect(page.locator("#search-about")).to_contain_text(f"({mode})")
        expect(page.locator("#hits li")).to_have_count(10)

    page.get_by_label("Strategy").select_option("plan")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#run-rows tr")).to_have_count(2)
    expect(page.locator("#run-why")).to_have_text("incremental: Builds on the live generation.", timeout=60_000)
    expect(page.locator("#run-state")).to_have_text("ready")
    page.locator("#plan summary").click()
    expect(page.locator("#plan-rows tr", has_text="texts to embed").locator("td").first).to_have_text("0")

    page.get_by_label("Strategy").select_option("full")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#run-rows tr")).to_have_count(3)
    expect(page.locator("#run-state")).to_have_text("ready", timeout=60_000)
    expect(page.locator("#generation-rows .is-live th")).not_to_have_text(first)

    page.get_by_role("button", name="Roll back").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("option:checked")).to_contain_text(first)
    dialog.get_by_role("button", name="Roll back").click()
    expect(page.locator("#generation-rows .is-live th")).to_have_text(first)
    expect(page.locator("#held")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    page.get_by_role("button", name="Release").click()
    expect(page.locator("#held")).to_be_hidden()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()


def test_a_run_is_watched_and_canceled(page: Page, slow: Served) -> None:
    page.goto(slow.address)
    is_live(page)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#stages .now")).to_contain_text("filling", timeout=60_000)
    expect(page.locator("#rate")).to_contain_text("documents a second", timeout=60_000)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#run-state")).to_have_text("canceled")
    expect(page.locator("#run-error")).to_contain_text("Canceled by local")
    expect(page.locator("#stages .broken")).to_contain_text("filling")
    expect(page.locator("#generation-rows")).to_contain_text("No generation yet")


def test_a_restart_of_the_service_is_seen_and_survived(page: Page, slow: Served) -> None:
    page.goto(slow.address)
    is_live(page)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#stages .now")).to_contain_text("filling", timeout=60_000)
    assert slow.stop() == 0
    expect(page.locator("#connection")).to_have_text("Connection lost, trying again")
    expect(page.locator("#stale")).to_contain_text("Not current")
    slow.up()
    is_live(page)
    expect(page.locator("#run-state")).to_have_text("failed")
    expect(page.locator("#run-error")).to_contain_text("interrupted")


def test_a_run_that_nobody_started_here_appears(page: Page, service: Served) -> None:
    page.goto(service.address)
    is_live(page)
    run = service.call("POST", "/sync", {"reason": "cron"})
    expect(page.locator("#run-about")).to_contain_text(run["id"])
    expect(page.locator("#run-about")).to_contain_text("“cron”")
    expect(page.locator("#run-state")).to_have_text("ready", timeout=60_000)


def test_what_admission_refuses_is_told_with_every_finding(page: Page, service: Served) -> None:
    target = {"source": {"index": "there-is-no-such-shop"}, "target": {"alias": f"{service.name}-2-live"}}
    service.call("PUT", "/catalogues/wrong", target)
    page.goto(service.address + "/?catalogue=wrong")
    is_live(page)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Refused before anything was built")
    expect(page.get_by_role("alert")).to_contain_text("there-is-no-such-shop")


def test_with_tokens_the_page_asks_for_one_and_streams_by_its_cookie(
    page: Page, elasticsearch9: str, shop: str, tmp_path: Path
) -> None:
    tokens = json.dumps({"night-shift": hashlib.sha256(TOKEN.encode()).hexdigest()})
    settings = {"RESHELVE_AUTH__MODE": "token", "RESHELVE_AUTH__TOKENS": tokens}
    with served(elasticsearch9, shop, tmp_path, TOKEN, **settings) as here:
        here.declare()
        page.goto(here.address)
        page.get_by_label("Token", exact=True).fill("not this one")
        page.keyboard.press("Enter")
        expect(page.locator("#login-problem")).to_contain_text("This is no token")
        page.get_by_label("Token", exact=True).fill("not-this-one")
        page.keyboard.press("Enter")
        expect(page.locator("#login-problem")).to_contain_text("This token is not known")
        page.get_by_label("Token", exact=True).fill(TOKEN)
        page.keyboard.press("Enter")
        is_live(page)
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.locator("#run-about")).to_contain_text("asked for by night-shift")
        expect(page.locator("#run-state")).to_have_text("ready", timeout=60_000)


def test_behind_nginx_the_page_is_the_same(page: Page, service: Served, tmp_path: Path) -> None:
    with nginx(find_nginx(), service.port, tmp_path) as front:
        page.goto(front)
        is_live(page)
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.locator("#run-state")).to_have_text("ready", timeout=60_000)
        assert service.stop() == 0
        expect(page.locator("#connection")).to_have_text("Connection lost, trying again")
        service.up()
        is_live(page)
