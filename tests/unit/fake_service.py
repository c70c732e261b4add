"""A small real HTTP server that answers what a test tells it to, for tests of the command line."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API = "/api/v1"


class FakeService:
    """Answers by method and path; of several answers each is given once, the last one for ever."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], list[tuple[int, Any]]] = {}
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []
        self.url = ""
        self.retry_after: str | None = None
        """Sent with every refusal."""

    def on(self, method: str, path: str, *answers: Any, status: int = 200) -> None:
        """Answer *path* (below the API's prefix, without its query) with each of *answers* in turn."""
        self.answers[method, API + path] = [(status, answer) for answer in answers or (None,)]

    def refuse(self, method: str, path: str, status: int, **members: Any) -> None:
        """Answer with a problem document."""
        body = {"type": "about:blank", "title": "T", "status": status, "detail": "It is so.", "code": "some_code"}
        self.on(method, path, {**body, "request_id": "req-1", **members}, status=status)

    def bodies(self, method: str, path: str) -> list[Any]:
        """What was sent there."""
        wanted = (method, API + path)
        return [body for asked, where, body, _ in self.asked if (asked, where.partition("?")[0]) == wanted]

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        waiting = self.answers.get((method, path.partition("?")[0]))
        if waiting is None:
            return 404, {"detail": f"There is no {path}.", "code": "not_found", "status": 404}
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]


@contextmanager
def serving(port: int = 0) -> Iterator[FakeService]:
    """A fake service on a port of the loopback."""
    fake = FakeService()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _all(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            sent = self.rfile.read(length)
            body = json.loads(sent) if sent else None
            fake.asked.append((self.command, self.path, body, {k.lower(): v for k, v in self.headers.items()}))
            status, answer = fake.answer(self.command, self.path)
            content = b"" if answer is None else answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            if status >= 400 and fake.retry_after is not None:
                self.send_header("retry-after", fake.retry_after)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _all  # noqa: N815 - the base class looks for these names

        def log_message(self, *_: Any) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
