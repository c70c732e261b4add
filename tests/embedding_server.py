"""A small server that speaks OpenAI's embeddings protocol, well or badly, as planned.

    with EmbeddingServer() as server:
        server.plan("429", "garbage")      # the next two requests; then all is well again
        server.always("hang")              # every request from now on
        server.poison = "cursed"           # 400 for any request with this word in a text
        server.url, server.calls, server.wait(3)

Vectors are those of `HashingEmbedder`: what a text gets depends on its words alone.
"""

import threading
from base64 import b64encode
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import orjson

from app.sync.embedders.hashing import hashed

STATUS: Mapping[str, tuple[int, dict[str, Any]]] = {
    "429": (429, {"code": "rate_limit_exceeded", "type": "requests", "message": "Rate limit reached"}),
    "quota": (429, {"code": "insufficient_quota", "type": "insufficient_quota", "message": "You exceeded your quota"}),
    "500": (500, {"code": None, "type": "server_error", "message": "The server had an error"}),
    "503": (503, {"code": None, "type": "server_error", "message": "Overloaded"}),
    "400": (400, {"code": None, "type": "invalid_request_error", "message": "'$.input' is invalid"}),
    "401": (401, {"code": "invalid_api_key", "message": "Incorrect API key provided: sk-very-secret"}),
    "403": (403, {"code": None, "message": "Not allowed"}),
    "404": (404, {"code": "model_not_found", "message": "The model does not exist"}),
    "redirect": (307, {"message": "elsewhere"}),
}
"""Faults that are an error answer."""

GOOD = ("ok", "shuffled", "lists", "plain")
SHAPES = (*GOOD, "few", "few_plain", "many", "dims", "nan", "zero", "garbage", "not_json", "twice")
"""Answers of status 200, the good ones among them: `shuffled`, `lists` (not base64), `plain` (without index, usage)."""

SILENCES = ("hang", "slow", "drop")
"""No answer, one after `server.delay` seconds, a closed connection."""


@dataclass(frozen=True)
class Call:
    """One request as it arrived."""

    texts: Sequence[str]
    model: str
    dimensions: int | None
    headers: Mapping[str, str]


@dataclass
class EmbeddingServer:
    """Listens on a free port of the loopback from `with` to the end of its block."""

    dims: int = 64
    fixed_dims: bool = False
    delay: float = 0.3
    poison: str | None = None
    max_tokens: int | None = None
    max_inputs: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    retry_after: str | None = "0.01"
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._planned: deque[str] = deque()
        self._always = "ok"
        self._changed = threading.Condition()
        self.released = threading.Event()

    def __enter__(self) -> "EmbeddingServer":
        server = self

        class Handler(Answering):
            plan = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = False
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def plan(self, *faults: str) -> None:
        """What the next requests meet, one each."""
        assert set(faults) <= {*STATUS, *SHAPES, *SILENCES}
        self._planned.extend(faults)

    def always(self, fault: str) -> None:
        """What every request meets that nothing else is planned for."""
        assert fault in {*STATUS, *SHAPES, *SILENCES}
        self._always = fault

    def wait(self, calls: int, deadline: float = 10.0) -> None:
        """Return when so many requests have arrived."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) >= calls, deadline), f"only {len(self.calls)} calls"

    def met(self, call: Call) -> str:
        """Note the call; the fault that it meets."""
        with self._changed:
            self.calls.append(call)
            self._changed.notify_all()
            return self._planned.popleft() if self._planned else self._always


class Answering(BaseHTTPRequestHandler):
    """Answers one connection."""

    plan: EmbeddingServer
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_POST(self) -> None:
        body = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(body["input"], body["model"], body.get("dimensions"), headers)
        fault = self.plan.met(call)
        if fault == "hang" or (fault == "slow" and self.plan.released.wait(self.plan.delay)):
            self.plan.released.wait(30)
            self.close_connection = True
        elif fault == "drop":
            self.close_connection = True
        elif fault in STATUS:
            self.refuse(*STATUS[fault])
        elif not self.refused(call):
            self.answer(fault, call)

    def refused(self, call: Call) -> bool:
        """The limits and the poison of this server."""
        longest = max((len(text.split()) for text in call.texts), default=0)
        if self.plan.max_tokens is not None and longest > self.plan.max_tokens:
            words = f"This model's maximum context length is {self.plan.max_tokens} tokens. You requested {longest}"
            self.refuse(400, {"code": None, "message": words})
        elif self.plan.max_inputs is not None and len(call.texts) > self.plan.max_inputs:
            self.refuse(422, {"code": None, "message": "batch size > maximum allowed batch size"})
        elif self.plan.poison and any(self.plan.poison in text for text in call.texts):
            self.refuse(*STATUS["400"])
        else:
            return False
        return True

    def refuse(self, status: int, error: dict[str, Any]) -> None:
        extra = {"retry-after": self.plan.retry_after} if status in {429, 503} and self.plan.retry_after else {}
        self.send(status, orjson.dumps({"error": error}), {"location": "http://192.0.2.1/v1/embeddings", **extra})

    def answer(self, fault: str, call: Call) -> None:
        if fault in {"garbage", "not_json"}:
            self.send(200, b'{"data": "nothing"}' if fault == "garbage" else b"<html>NaN", {})
            return
        dims = self.plan.dims if self.plan.fixed_dims or not call.dimensions else call.dimensions
        vectors = shaped(fault, hashed(call.texts, dims + 1 if fault == "dims" else dims))
        data = [{"object": "embedding", "index": number, "embedding": row} for number, row in enumerate(vectors)]
        self.send(200, orjson.dumps(finished(fault, call, data)), self.plan.headers)

    def send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Quiet."""


def shaped(fault: str, vectors: Any) -> list[Any]:
    """The vectors as *fault* spoils them, as base64 or lists."""
    vectors = vectors.copy()
    if fault == "nan":
        vectors[-1, 0] = np.nan
    if fault == "zero":
        vectors[0] = 0
    rows = [
        vector.tolist() if fault == "lists" else b64encode(vector.astype("<f4").tobytes()).decode()
        for vector in vectors
    ]
    return {"few": rows[:-1], "few_plain": rows[:-1], "many": [*rows, rows[0]]}.get(fault, rows)


def finished(fault: str, call: Call, data: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole answer."""
    if fault == "shuffled":
        data = data[::-1]
    if fault == "twice":
        data = [{**item, "index": 0} for item in data] if len(data) > 1 else [{**data[0], "index": 7}]
    if fault in {"plain", "few_plain"}:
        return {"data": [{"embedding": item["embedding"]} for item in data]}
    words = sum(len(text.split()) for text in call.texts)
    return {
        "object": "list",
        "data": data,
        "model": call.model,
        "usage": {"prompt_tokens": words, "total_tokens": words},
    }
