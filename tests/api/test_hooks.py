"""Webhooks, signed as Standard Webhooks: what is let in, and that nothing malformed is more than a refusal."""

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from app import hooks
from app.config import AuthSettings, Settings
from app.errors import Invalid, Malformed, Unauthorized
from app.hooks import TOLERANCE
from tests import signing
from tests.api.conftest import SHOP, TOKEN, TOKENS, Service, is_problem, settings_for, started

pytestmark = pytest.mark.anyio

HOOK = "/api/v1/hooks/shop"
EVENTS = "/api/v1/catalogues/shop/events"
OLD, NEW = "whsec_" + base64.b64encode(b"o" * 24).decode(), "a-secret-of-plain-words"
BODY = b'{"events": [{"product_id": "1"}, {"product_id": "2", "action": "delete"}]}'

VECTOR: dict[str, str] = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
"""Published with the reference libraries, for this payload and secret."""
PAYLOAD, PUBLISHED = b'{"test": 2432232314}', SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


def signed(body: bytes = BODY, *secrets: str, **how: Any) -> dict[str, str]:
    return signing.signed(body, *(secrets or (NEW,)), **how)


@pytest.fixture
async def hooked(tmp_path: Path) -> AsyncIterator[Service]:
    """A service that asks for tokens, and expects webhooks signed with either of two secrets."""
    auth = AuthSettings(mode="token", tokens=TOKENS)
    async with started(settings_for(tmp_path, auth=auth, webhook_secrets=[OLD, NEW])) as service:
        service.client.headers["Authorization"] = f"Bearer {TOKEN}"
        assert (await service.client.put("/api/v1/catalogues/shop", json=SHOP)).status_code == 201
        yield service


async def send(service: Service, headers: Any, body: bytes = BODY, hook: str = HOOK) -> httpx.Response:
    """As anybody outside would: without a token."""
    token = service.client.headers.pop("Authorization", None)
    try:
        return await service.client.post(hook, content=body, headers=headers)
    finally:
        if token:
            service.client.headers["Authorization"] = token


async def waiting(service: Service) -> Sequence[str]:
    items = (await service.client.get(f"{EVENTS}?status=pending")).json()["items"]
    return sorted(one["product_id"] for one in items)


# --- the published vector --------------------------------------------------------------------------------------------


def test_the_published_signature_is_valid_and_what_it_signs_is_no_event() -> None:
    moment = float(VECTOR["webhook-timestamp"])
    with pytest.raises(Invalid) as refused:
        hooks.verified(VECTOR, PAYLOAD, [PUBLISHED], now=moment)
    assert refused.value.errors[0]["where"] == "events"
    for changed in (PAYLOAD.replace(b"3", b"4"), PAYLOAD + b" "):
        with pytest.raises(Unauthorized):
            hooks.verified(VECTOR, changed, [PUBLISHED], now=moment)
    for name in ("webhook-id", "webhook-timestamp"):
        with pytest.raises(Unauthorized):
            hooks.verified({**VECTOR, name: VECTOR[name][:-1] + "9"}, PAYLOAD, [PUBLISHED], now=moment)


@pytest.mark.parametrize("age", [0, TOLERANCE, -TOLERANCE])
def test_a_message_is_valid_within_the_tolerance(age: float) -> None:
    with pytest.raises(Invalid):
        hooks.verified(VECTOR, PAYLOAD, [PUBLISHED], now=float(VECTOR["webhook-timestamp"]) + age)


@pytest.mark.parametrize("age", [TOLERANCE + 1, -TOLERANCE - 1, 10**9])
def test_beyond_the_tolerance_a_recorded_message_is_worth_nothing(age: float) -> None:
    with pytest.raises(Unauthorized) as refused:
        hooks.verified(VECTOR, PAYLOAD, [PUBLISHED], now=float(VECTOR["webhook-timestamp"]) + age)
    assert refused.value.code == "stale_webhook"


# --- let in ----------------------------------------------------------------------------------------------------------


async def test_a_signed_message_needs_no_token(hooked: Service) -> None:
    answer = await send(hooked, signed())
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2, "coalesced": 0, "duplicates": 0})
    assert await waiting(hooked) == ["1", "2"]


@pytest.mark.parametrize("secrets", [(OLD,), (NEW,), (OLD, NEW), ("unknown-" * 4, NEW)])
async def test_while_secrets_rotate_either_is_valid(hooked: Service, secrets: tuple[str, ...]) -> None:
    assert (await send(hooked, signed(BODY, *secrets))).status_code == 202


async def test_signatures_of_other_versions_are_for_others(hooked: Service) -> None:
    headers = signed()
    valid = headers["webhook-signature"]
    for other in ("v1a,AAAA", "v2," + valid[3:], "v1,not base64!", "v1,", "v1", ",", "garbage"):
        assert (await send(hooked, {**headers, "webhook-signature": f"{other} {valid}"})).status_code == 202


async def test_a_replayed_message_does_nothing_twice(hooked: Service) -> None:
    headers = signed()
    await send(hooked, headers)
    for again in (headers, signed(age=30)):
        assert (await send(hooked, again)).json() == {"accepted": 0, "coalesced": 0, "duplicates": 2}
    assert (await send(hooked, signed(message="msg_2"))).json() == {"accepted": 2, "coalesced": 2, "duplicates": 0}


async def test_an_event_with_an_id_of_its_own_is_known_by_it(hooked: Service) -> None:
    body = b'{"events": [{"product_id": "1", "id": "mine"}]}'
    assert (await send(hooked, signed(body), body)).json()["accepted"] == 1
    assert (await send(hooked, signed(body, message="msg_2"), body)).json()["duplicates"] == 1


async def test_long_message_ids_that_end_alike_are_different_messages(hooked: Service) -> None:
    for first in "ab":
        answer = await send(hooked, signed(message=first + "x" * 199))
        assert (answer.status_code, answer.json()["accepted"]) == (202, 2)
    is_problem(await send(hooked, signed(message="x" * 201)), 400, "bad_webhook")


# --- refused ---------------------------------------------------------------------------------------------------------


async def test_a_foreign_signature_is_401(hooked: Service) -> None:
    headers = signed()
    valid = headers["webhook-signature"]
    for signature in (
        "v1,AAAA",
        "v1a," + valid[3:],
        valid[:-3] + ("BA=" if valid.endswith("AA=") else "AA="),
        "v1 " + valid[3:],
        valid.replace("v1,", "v1;"),
    ):
        is_problem(await send(hooked, {**headers, "webhook-signature": signature}), 401, "bad_signature")
    is_problem(await send(hooked, signed(BODY, "unknown-" * 4)), 401, "bad_signature")
    is_problem(await send(hooked, signed(), BODY.replace(b"1", b"7")), 401, "bad_signature")
    assert await waiting(hooked) == []


async def test_an_old_message_and_one_from_the_future_are_401(hooked: Service) -> None:
    for age in (TOLERANCE + 60, -TOLERANCE - 60):
        is_problem(await send(hooked, signed(age=age)), 401, "stale_webhook")


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
async def test_a_header_that_is_missing_or_no_text_is_400(hooked: Service, name: str) -> None:
    headers = signed()
    is_problem(await send(hooked, {key: value for key, value in headers.items() if key != name}), 400, "bad_webhook")
    for bad in (b"", b"\xff", "é".encode(), b"a\tb\x01", b"x" * 3000):
        sent = [(key.encode(), bad if key == name else value.encode()) for key, value in headers.items()]
        is_problem(await send(hooked, sent), 400, "bad_webhook")


@pytest.mark.parametrize("moment", ["now", "1.5", "-1", "1e9", "0x10", "9" * 13, "1 ", "१२३"])
async def test_a_timestamp_is_seconds(hooked: Service, moment: str) -> None:
    headers = [(key.encode(), value.encode()) for key, value in {**signed(), "webhook-timestamp": moment}.items()]
    answer = await send(hooked, headers)
    assert answer.status_code in (400, 401)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'{"events": []}', b'{"events": [{"product_id": 7}]}'])
async def test_what_is_signed_and_no_event_is_422(hooked: Service, body: bytes) -> None:
    problem = is_problem(await send(hooked, signed(body), body), 422, "invalid")
    assert problem["errors"]


async def test_a_body_is_json_of_bounded_size(hooked: Service) -> None:
    form = {**signed(), "content-type": "application/x-www-form-urlencoded"}
    is_problem(await send(hooked, form), 415, "unsupported_media_type")
    is_problem(await send(hooked, signed(b"{"), b"{"), 400, "bad_json")
    large = b" " * 1_000_001
    is_problem(await send(hooked, signed(large), large), 413, "too_large")


async def test_for_an_unknown_catalogue_a_signed_message_is_404_and_an_unsigned_one_tells_nothing(
    hooked: Service,
) -> None:
    is_problem(await send(hooked, signed(), hook="/api/v1/hooks/none"), 404, "not_found")
    is_problem(await send(hooked, signed(signature="v1,AAAA"), hook="/api/v1/hooks/none"), 401, "bad_signature")


async def test_without_secrets_no_webhook_is_let_in(shop: Service) -> None:
    is_problem(await send(shop, signed()), 401, "no_webhooks")


@pytest.mark.parametrize("secret", ["whsec_***", "whsec_AAAA", "short", "whsec_é"])
def test_a_secret_that_protects_nothing_is_refused_at_start(secret: str) -> None:
    with pytest.raises(ValidationError):
        Settings(webhook_secrets=[secret])


# --- anything --------------------------------------------------------------------------------------------------------

RAW = st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature", "content-type")
ANY_MOMENT = st.integers(-(10**15), 10**15).map(lambda number: str(number).encode())
ANY_SIGNATURE = st.lists(st.sampled_from(["v1", "v1a", "v2", "", "v1,"]).flatmap(
    lambda version: st.binary(max_size=40).map(lambda raw: f"{version},{base64.b64encode(raw).decode()}")), max_size=9
).map(lambda made: " ".join(made).encode())  # fmt: skip
CHANGES = st.dictionaries(st.sampled_from(NAMES), RAW | ANY_MOMENT | ANY_SIGNATURE | st.none(), min_size=1)
BODIES = st.sampled_from([BODY, b"", b"{}"]) | RAW | st.recursive(
    st.none() | st.booleans() | st.text(max_size=9) | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["events", "product_id", "id", "action"]), inner), max_leaves=9
).map(lambda value: json.dumps(value).encode())  # fmt: skip
REFUSALS = {400, 401, 413, 415, 422}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES, body=BODIES)
async def test_whatever_the_headers_say_it_is_a_refusal(
    hooked: Service, changes: dict[str, bytes | None], body: bytes
) -> None:
    headers = {key: value.encode() for key, value in signed(body).items()} | changes
    sent = [(key.encode(), value) for key, value in headers.items() if value is not None]
    answer = await send(hooked, sent, body)
    assert answer.status_code in REFUSALS | {202}, answer.text
    if answer.status_code != 202:
        is_problem(answer, answer.status_code)
    else:
        assert changes.keys() == {"content-type"}


@settings(max_examples=300, deadline=None)
@given(changes=CHANGES, body=BODIES)
def test_nothing_but_our_own_errors_leaves(changes: dict[str, bytes | None], body: bytes) -> None:
    headers = signed(body) | {key: (value or b"").decode("latin-1") for key, value in changes.items()}
    with suppress(Malformed, Unauthorized, Invalid):
        hooks.verified(headers, body, [SecretStr(OLD), SecretStr(NEW)])
