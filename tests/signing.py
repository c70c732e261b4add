"""Webhooks signed as Standard Webhooks says, written here once more, so that ours is not compared with itself."""

import base64
import hashlib
import hmac
import time


def digest(secret: str, message: str, moment: int, body: bytes) -> str:
    """A signature."""
    plain = not secret.startswith("whsec_")
    key = secret.encode() if plain else base64.b64decode(secret.partition("_")[2])
    made = hmac.new(key, f"{message}.{moment}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(made).decode()


def signed(
    body: bytes, *secrets: str, message: str = "msg_1", age: float = 0, signature: str | None = None
) -> dict[str, str]:
    """Headers of a message with a signature of each secret, or with *signature*; it is *age* seconds old."""
    moment = int(time.time() - age)
    made = " ".join(digest(one, message, moment, body) for one in secrets)
    return {
        "content-type": "application/json",
        "webhook-id": message,
        "webhook-timestamp": str(moment),
        "webhook-signature": made if signature is None else signature,
    }
