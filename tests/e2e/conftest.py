"""A browser, a page in it that is watched for violations, and somebody who plays the API."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.e2e.fake_api import FakeApi

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page; a script error, a violated policy or a request to elsewhere fails the test."""
    context = browser.new_context(viewport={"width": 1180, "height": 900}, locale="en-GB", timezone_id="UTC")
    page = context.new_page()
    wrong: list[str] = []
    elsewhere: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            wrong.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: "//127.0.0.1" in request.url or elsewhere.append(request.url))
    yield page
    context.close()
    assert [text for text in wrong if "net::ERR_" not in text] == []
    assert elsewhere == []


@pytest.fixture
def fake() -> FakeApi:
    return FakeApi()


@pytest.fixture
def address(fake: FakeApi) -> Iterator[str]:
    with fake.up() as address:
        yield address
