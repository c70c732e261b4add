"""What `docs/events.md` shows is what happens: each of its shell blocks is run, and prints what stands below it."""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.nginx import free_port
from tests.e2e.served import ROOT, Served

TOKEN = "a-token-of-this-test"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SHOP = {"source": {"index": "shop-products"}, "target": {"alias": "shop-live"}}


def examples() -> list[tuple[str, str]]:
    """Each shell block of the examples, and the answer below it."""
    text = (ROOT / "docs" / "events.md").read_text().split("\n## Examples\n")[1]
    return re.findall(r"```sh\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with the catalogue `shop`, tokens and webhooks, whose engine is away: events are taken all the same."""
    settings = {
        "RESHELVE_AUTH__MODE": "token",
        "RESHELVE_AUTH__TOKENS": json.dumps({"tester": hashlib.sha256(TOKEN.encode()).hexdigest()}),
        "RESHELVE_WEBHOOK_SECRETS": f"whsec_{'b2xk' * 8},{SECRET}",
    }
    engine = f"http://127.0.0.1:{free_port()}"
    here = Served(engine, "shop-products", tmp_path_factory.mktemp("service"), settings, TOKEN, name="shop")
    here.up()
    try:
        here.call("PUT", "/catalogues/shop", SHOP)
        yield here
    finally:
        here.stop()


def shell(service: Served, script: str, secret: str = SECRET) -> subprocess.CompletedProcess[str]:
    there = {"URL": service.address, "TOKEN": TOKEN, "SECRET": secret}
    there |= {f"RESHELVE_{name}": there[name] for name in ("URL", "TOKEN")}
    env = {"PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}", "NO_COLOR": "1", **there}
    command = ["sh", "-euc", script]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_the_examples_print_what_stands_below_them(service: Served) -> None:
    assert len(examples()) == 4
    for script, answer in examples():
        done = shell(service, script)
        assert (done.returncode, done.stderr) == (0, ""), script
        assert done.stdout.strip() == answer.strip(), script
    lag = service.call("GET", "/catalogues/shop")["lag"]
    assert lag["pending"] + lag["processing"] == 2 + 2501 + 2


def test_a_secret_that_is_not_known_signs_in_vain(service: Served) -> None:
    signed = next(script for script, _ in examples() if "openssl" in script)
    done = shell(service, signed, secret=f"whsec_{'bm8h' * 8}")
    assert done.returncode != 0
    assert "401" in done.stderr
