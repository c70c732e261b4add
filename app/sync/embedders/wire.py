"""One embedding request over the OpenAI client: sent once, cut by our own time-out, every failure put in our words.

The client is imported here only and takes most of a second to import: this module is loaded in a thread. Its own
retries, redirects and environment variables are switched off: a key goes to the address it was configured for and
nowhere else. No word of the endpoint's error text is repeated, because some endpoints quote the key or the input.

What an error means:

| answer | meaning |
|---|---|
| 429 | busy, with what it says about when to come back; final when the quota is used up |
| 5xx, 408, 409, no connection, no answer in time | another try is safe |
| 400, 413, 422 | one of these texts, or all of them: the caller finds out |
| 401, 403, 402, 404, redirects, anything else | final: somebody must change a setting |
| 200 with garbage | tried a few times, then the run ends |
"""

import re
from collections.abc import Sequence
from typing import Any

import openai
from anyio import fail_after, to_thread

from app.errors import EmbedderBusy, EmbedderError, EmbedderUnavailable
from app.sync.embedders.answer import Answer, Garbage, read
from app.sync.embedders.asking import Ask, InputRefused
from app.sync.pacing import Pace, retry_after

CONNECT_SECONDS = 10.0

GARBAGE_ATTEMPTS = 3
"""An endpoint that answers garbage so often in a row will not stop."""

QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})

TOO_LONG = re.compile(r"too (?:long|large)|context (?:length|size|window)|(?:max|less than) .{0,40}tokens", re.I)
LIMIT = re.compile(r"(?:context (?:length|size|window)|less than|max)\D{0,40}(\d{2,7})\s*tokens", re.I)
"""How endpoints say that a text has too many tokens, and how many it may have: OpenAI, vLLM, llama.cpp, TEI."""

SECRET_HEADERS = ("Authorization", "OpenAI-Organization", "OpenAI-Project")
"""Not sent to an address that no key was configured for."""

FINAL = {
    401: ("embedder_unauthorized", "refuses the key (401): set {variable}__API_KEY to a valid one."),
    403: ("embedder_forbidden", "does not allow this key to use {model} (403): check its rights."),
    404: (
        "unknown_model",
        "knows no model {model} (404): check recipe.embedder.model, and that {variable}__URL has its path, mostly /v1.",
    ),
}
MOVED = ("embedder_moved", "sends requests elsewhere ({status}): set {variable}__URL to where it really is.")
ODD = ("embedder_refused", "answered {status}: does it offer embeddings? See {variable}__URL.")
"""What must be changed, by status."""


class Endpoint:
    """One address with one model behind it."""

    def __init__(self, ask: Ask, pace: Pace) -> None:
        self._ask, self._pace = ask, pace
        timeout = openai.Timeout(ask.timeout, connect=min(CONNECT_SECONDS, ask.timeout))
        self._without: Any = {} if ask.key else {header: openai.Omit() for header in SECRET_HEADERS}
        self._client = openai.AsyncOpenAI(
            base_url=ask.url,
            api_key=ask.key or "none",
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultAsyncHttpxClient(
                timeout=timeout, follow_redirects=False, trust_env=not ask.local
            ),
        )

    async def post(self, texts: Sequence[str], dims: int | None, tokens: int) -> Answer:
        """One request for *texts*, *tokens* by estimate; *dims* is sent where it is not None."""
        await self._pace.turn(tokens)
        try:
            with fail_after(self._ask.timeout):
                raw = await self._client.embeddings.with_raw_response.create(
                    input=list(texts),
                    model=self._ask.model,
                    encoding_format="base64",
                    dimensions=openai.omit if dims is None else dims,
                    extra_headers=self._without,
                )
        except (TimeoutError, openai.APITimeoutError):
            detail = f"{self._ask.whom} did not answer within {self._ask.timeout:g} s."
            raise EmbedderUnavailable(detail, code="embedder_timeout") from None
        except openai.APIConnectionError:
            detail = f"{self._ask.whom} cannot be reached: is it running, is the address right?"
            raise EmbedderUnavailable(detail) from None
        except openai.APIStatusError as error:
            raise self._meaning(error) from None
        except openai.OpenAIError:
            raise self._garbage("something that the client cannot read") from None
        self._pace.learn(raw.headers)
        try:
            return await to_thread.run_sync(read, raw.content, len(texts))
        except Garbage as garbage:
            raise self._garbage(str(garbage)) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _garbage(self, what: str) -> EmbedderUnavailable:
        detail = f"{self._ask.whom} answered with {what}."
        return EmbedderUnavailable(detail, code="embedder_garbage", attempts=GARBAGE_ATTEMPTS)

    def _meaning(self, error: openai.APIStatusError) -> EmbedderError:
        """What an error answer means."""
        status, word, headers, whom = error.status_code, _word(error), error.response.headers, self._ask.whom
        self._pace.learn(headers)
        if word in QUOTA or status == 402:
            detail = f"{whom} says that the quota is used up: check plan and billing."
            return EmbedderError(detail, code="insufficient_quota")
        if status == 429:
            return self._busy(retry_after(headers))
        if status >= 500 or status in {408, 409}:
            return EmbedderUnavailable(f"{whom} answered {status}.", **_when(retry_after(headers)))
        if status in {400, 413, 422} and word != "model_not_found":
            return _refusal(error, f"{whom} refuses this input ({status}{f', {word}' if word else ''}).")
        return _final(404 if word == "model_not_found" else status, self._ask)

    def _busy(self, wait: float | None) -> EmbedderBusy:
        self._pace.pause(wait or 0)
        return EmbedderBusy(f"{self._ask.whom} answered 429: it wants less.", **_when(wait))


def _when(wait: float | None) -> dict[str, Any]:
    return {} if wait is None else {"retry_after": wait}


def _word(error: openai.APIStatusError) -> str:
    """The endpoint's error code where it is a plain word, else nothing."""
    for word in (error.code, error.type):
        if isinstance(word, str) and re.fullmatch(r"[a-z_]{1,40}", word):
            return word
    return ""


def _refusal(error: openai.APIStatusError, detail: str) -> InputRefused:
    """What the endpoint says against the input, read but not repeated."""
    said = str(error.message)[:2000]
    limit = LIMIT.search(said)
    return InputRefused(
        detail,
        too_long=bool(TOO_LONG.search(said)) or _word(error) == "context_length_exceeded" or error.status_code == 413,
        too_many=error.status_code in {413, 422},
        limit=int(limit.group(1)) if limit else None,
    )


def _final(status: int, ask: Ask) -> EmbedderError:
    """Somebody must change a setting."""
    code, why = FINAL.get(status, MOVED if 300 <= status < 400 else ODD)
    detail = why.format(status=status, model=ask.model, variable=ask.variable)
    return EmbedderError(f"{ask.whom} {detail}", code=code)
