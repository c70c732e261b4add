"""An engine that is secured: TLS with a CA of our own, credentials, and rights that are missing, told before a run."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from app.config import EngineSettings
from app.demo.catalogue import tolerant
from app.errors import Refused
from tests.authority import Authority, authority
from tests.gates import QUICK
from tests.gateway import Gateway, gateway
from tests.stack import Stack, stack, stock

pytestmark = pytest.mark.anyio

PRODUCTS = 60
BASIC = "Basic " + base64.b64encode(b"shop:right").decode()
KEY = "ApiKey right"

RIGHT = {
    BASIC: {"username": "shop", "password": SecretStr("right")},
    KEY: {"api_key": SecretStr("right")},
}
WRONG = {
    BASIC: {"username": "shop", "password": SecretStr("wrong")},
    KEY: {"api_key": SecretStr("wrong")},
}


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="session")
def another(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("another"), "another")


@asynccontextmanager
async def secured(url: str, folder: Path, ca: Authority, accepted: str, **how: Any) -> AsyncIterator[Stack]:
    """A stack whose engine speaks TLS by a certificate of *ca* and lets in *accepted*; *how* it is asked."""
    async with (
        gateway(url, tls=ca.server(), accepted=accepted) as way,
        stack(url, folder, engines={"main": EngineSettings(url=way.url, **how)}) as here,
    ):
        await filled(here)
        yield here


@asynccontextmanager
async def limited(url: str, folder: Path) -> AsyncIterator[tuple[Gateway, Stack]]:
    """A stack whose user may be forbidden something."""
    async with gateway(url) as way, stack(url, folder, engines={"main": EngineSettings(url=way.url)}) as here:
        await filled(here)
        yield way, here


async def filled(here: Stack) -> None:
    here.shop.fill(stock(PRODUCTS), tolerant())
    await here.declare(recipe=QUICK)


async def findings(here: Stack) -> list[tuple[str, str]]:
    """What an order is refused for; and nothing was made for it."""
    with pytest.raises(Refused) as refused:
        await here.order()
    found = refused.value.extra["findings"]
    assert isinstance(found, list)
    assert here.indices() == []
    return [(one["code"], one["detail"]) for one in found]


# --- who -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accepted", [BASIC, KEY], ids=["basic", "key"])
async def test_our_ca_and_the_right_credentials_make_a_run_ready(
    bad_day_url: str, tmp_path: Path, ours: Authority, accepted: str
) -> None:
    how = RIGHT[accepted] | {"ca_certs": ours.certificate}
    async with secured(bad_day_url, tmp_path, ours, accepted, **how) as here:
        run = await here.sync()
        assert (run.state, run.error) == ("ready", None)
        assert here.count() == run.counts["loaded"]


@pytest.mark.parametrize("accepted", [BASIC, KEY], ids=["basic", "key"])
async def test_wrong_credentials_are_one_finding(
    bad_day_url: str, tmp_path: Path, ours: Authority, accepted: str
) -> None:
    how = WRONG[accepted] | {"ca_certs": ours.certificate}
    async with secured(bad_day_url, tmp_path, ours, accepted, **how) as here:
        ((code, detail),) = await findings(here)
        assert code == "engine_unauthorized"
        assert "USERNAME and PASSWORD, or API_KEY" in detail
        assert "wrong" not in detail, "no secret is shown"


async def test_no_credentials_are_one_finding(bad_day_url: str, tmp_path: Path, ours: Authority) -> None:
    async with secured(bad_day_url, tmp_path, ours, BASIC, ca_certs=ours.certificate) as here:
        assert [code for code, _ in await findings(here)] == ["engine_unauthorized"]


async def test_a_certificate_of_another_ca_is_one_clear_finding(
    bad_day_url: str, tmp_path: Path, ours: Authority, another: Authority
) -> None:
    async with secured(bad_day_url, tmp_path, ours, BASIC, ca_certs=another.certificate, **RIGHT[BASIC]) as here:
        ((code, detail),) = await findings(here)
        assert code == "engine_tls"
        assert "set CA_CERTS" in detail
        assert "Traceback" not in detail


# --- what ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("POST", "/_pit|/point_in_time", "open a point in time"),
        ("PUT", "^/{name}-[0-9]+$", "create indices {name}-*"),
        ("POST", "^/_aliases", "move the alias {name}-live"),
        ("POST", "^/{name}-[^/]*/_bulk", "write to {name}-*"),
        ("PUT", "^/{name}.vectors$", "create the index {name}.vectors"),
        ("POST", "^/{name}.vectors/_bulk", "write to {name}.vectors"),
        ("GET", "^/{name}-shop(-v1)?/_mapping", "show the mapping of {name}-shop"),
        ("GET", "^/{name}-shop[?]", "describe {name}-shop"),
    ],
    ids=["pit", "create", "aliases", "bulk", "vectors", "vectors-bulk", "mapping", "resolve"],
)
async def test_a_right_that_is_missing_is_told_by_name(
    bad_day_url: str, tmp_path: Path, method: str, path: str, said: str
) -> None:
    async with limited(bad_day_url, tmp_path) as (way, here):
        way.forbid(method, path.format(name=here.name))
        ((code, detail),) = await findings(here)
        assert code == "engine_forbidden"
        assert f"does not let this user {said.format(name=here.name)}" in detail
        assert "grant what it misses" in detail


async def test_the_right_to_clone_is_asked_for_once_there_is_something_to_clone(
    bad_day_url: str, tmp_path: Path
) -> None:
    async with limited(bad_day_url, tmp_path) as (way, here):
        way.forbid("PUT", "/_clone")
        assert (await here.sync()).state == "ready"
        live = here.indices()
        with pytest.raises(Refused, match=f"does not let this user clone {live[0]}"):
            await here.order()
        assert here.indices() == live


async def test_all_rights_that_are_missing_are_told_at_once(bad_day_url: str, tmp_path: Path) -> None:
    async with limited(bad_day_url, tmp_path) as (way, here):
        for method in ("PUT", "POST", "DELETE"):
            way.forbid(method, f"^/{here.name}-0|^/{here.name}.vectors|^/_aliases")
        assert len(await findings(here)) == 5


async def test_privileges_that_elasticsearch_lists_as_missing(bad_day_url: str, tmp_path: Path) -> None:
    async with limited(bad_day_url, tmp_path) as (way, here):
        listed = {
            "has_all_requested": False,
            "cluster": {"monitor": False},
            "index": {f"{here.name}-*": {"manage": False, "read": True}, f"{here.name}.vectors": {"write": False}},
        }
        way.say(200, "POST", "^/_security/user/_has_privileges", here.alias, body=orjson.dumps(listed))
        ((code, detail),) = await findings(here)
        assert code == "engine_forbidden"
        missing = f"monitor on the cluster, manage on {here.name}-*, write on {here.name}.vectors: grant it."
        assert detail.endswith(missing)


async def test_rights_that_a_run_does_without_are_no_findings(bad_day_url: str, tmp_path: Path) -> None:
    """The source is not refreshed by us, then; what only helps to ask is not asked."""
    async with limited(bad_day_url, tmp_path) as (way, here):
        way.forbid("POST", f"^/{here.name}-shop.*/_refresh|_simulate|_has_privileges")
        way.forbid("GET", "^/_cluster/settings")
        assert (await here.sync()).state == "ready"


async def test_a_right_that_is_lost_on_the_way_fails_the_run_and_leaves_nothing(
    bad_day_url: str, tmp_path: Path
) -> None:
    """Blocking writes and merging cannot be tried without doing it."""
    async with limited(bad_day_url, tmp_path) as (way, here):
        way.forbid("PUT", "/_block/write")
        run = await here.sync()
        assert run.state == "failed"
        assert run.error is not None
        assert run.error["code"] == "engine_forbidden"
        assert "block writes" in run.error["detail"]
        assert (here.indices(), here.behind_alias()) == ([], [])
        assert way.refused
