"""Webhooks from outside, signed in the form of Standard Webhooks (standardwebhooks.com): who sent this, and when.

    webhook-id: msg_1   webhook-timestamp: 1764085000   webhook-signature: v1,<base64> [v1,<base64> ...]

What is signed is `<id>.<timestamp>.<body>`, byte for byte as it arrived, with HMAC-SHA256. Several secrets may be
valid, so that one can follow another; several signatures may be sent, for the same reason. A message that is too old
or from the future is refused, so that a recorded one is worth nothing later; one that is sent again within that time is
known by its id, as each of its events without an `id` has one made of it.

Written by hand: it is HMAC and a comparison, and the reference library brings an HTTP client and a date parser along.
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence

from pydantic import SecretStr, ValidationError

from app.errors import Invalid, Malformed, Unauthorized
from app.notices import Notices
from app.routers.problems import findings

TOLERANCE = 300
"""Seconds that a message may be old, or early."""

PREFIX = "whsec_"

LONGEST, LONGEST_ID = 2000, 200
"""Characters of a header, and of a message's id: what is made of that is the id of an event."""


def verified(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[SecretStr], now: float | None = None
) -> Notices:
    """The events of a message that one of *secrets* signed. Raises `Malformed`, `Unauthorized`, or `Invalid`."""
    if not secrets:
        raise Unauthorized("No webhook is expected here: set RESHELVE_WEBHOOK_SECRETS.", code="no_webhooks")
    message = _one(headers, "webhook-id", LONGEST_ID)
    moment = _moment(_one(headers, "webhook-timestamp"))
    if abs((time.time() if now is None else now) - moment) > TOLERANCE:
        raise Unauthorized(
            f"The message is not of the last {TOLERANCE} seconds: see both clocks.", code="stale_webhook"
        )
    told = f"{message}.{moment}.".encode() + body
    wanted = [hmac.new(key_of(secret), told, hashlib.sha256).digest() for secret in secrets]
    sent = _signatures(_one(headers, "webhook-signature"))
    if not any(hmac.compare_digest(one, other) for one in sent for other in wanted):
        raise Unauthorized("No valid signature of a secret that is known here.", code="bad_signature")
    return _named(_parsed(body), message)


def key_of(secret: SecretStr) -> bytes:
    """The key of a secret: base64 behind `whsec_`, else its own bytes."""
    told = secret.get_secret_value()
    if not told.startswith(PREFIX):
        return told.encode()
    return base64.b64decode(told.removeprefix(PREFIX), validate=True)


def _one(headers: Mapping[str, str], name: str, most: int = LONGEST) -> str:
    value = headers.get(name, "")
    if not value or len(value) > most or not value.isascii() or not value.isprintable():
        raise Malformed(f"A webhook has a header {name}: see standardwebhooks.com.", code="bad_webhook")
    return value


def _moment(told: str) -> int:
    if not told.isdigit() or len(told) > 12:
        raise Malformed("webhook-timestamp must be seconds since 1970.", code="bad_webhook")
    return int(told)


def _signatures(told: str) -> list[bytes]:
    """The digests of version 1; other versions are for others."""
    found = []
    for one in told.split(" "):
        version, _, signature = one.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(signature, validate=True))
            except (binascii.Error, ValueError):
                continue
    return found


def _parsed(body: bytes) -> Notices:
    try:
        return Notices.model_validate_json(body)
    except ValidationError as error:
        found = findings(error.errors(include_url=False, include_input=False))
        raise Invalid("The message holds no events as `POST /events` takes them: see errors.", errors=found) from None


def _named(notices: Notices, message: str) -> Notices:
    """Each event with an id, so that the same message does nothing twice."""
    named = [
        one if one.id else one.model_copy(update={"id": f"{message}:{place}"})
        for place, one in enumerate(notices.events)
    ]
    return notices.model_copy(update={"events": named})
