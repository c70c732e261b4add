"""The process that listens: uvicorn, started and stopped around the service.

The service is started first, so that what is wrong is one clear `Problem` and not a stack. SIGTERM or SIGINT: draining
begins at once (not ready, streams say `bye`), no new connections, answers under way end within `DRAIN_SECONDS`, then
the worker drains. The process then ends with 0: it was asked to stop and did.
"""

import ctypes
import gc
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from types import FrameType
from typing import Any

import anyio
import orjson
import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app import edge, logs
from app.config import Settings
from app.errors import Malformed, Problem
from app.main import create_app
from app.routers import problems

KEEP_ALIVE_SECONDS = 75
"""Longer than a proxy in front keeps an idle connection (nginx: 60), so that it never sends into a closing one."""

BACKLOG = 512

ARENAS = 2
"""Heaps of the C library. It would make up to eight a core, for the threads that prepare and embed, and what one of
them has freed serves no other."""

OWN_MAPPING_BYTES = 2**20
"""What is larger has a mapping of its own and goes back to the system once it is freed. By itself the C library raises
this bound to 32 MB, and then pages, bulk bodies and tables of ids leave holes in its heaps that only grow."""

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3

log = structlog.get_logger("reshelve.server")


class Protocol(HttpToolsProtocol):
    """HTTP, with a problem document also for what is no HTTP."""

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's own answer is plain text."""
        body = orjson.dumps(problems.document(400, Malformed.title, msg, Malformed.code, edge.request_id_for(None)))
        head = f"content-type: application/problem+json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head.encode() + body)
        self.transport.close()


class Server(uvicorn.Server):
    """Sets *draining* at the first signal, before connections are asked to end."""

    def __init__(self, config: uvicorn.Config, draining: anyio.Event) -> None:
        super().__init__(config)
        self._draining = draining

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A second Ctrl-C ends at once."""
        self._draining.set()
        super().handle_exit(sig, frame)


def serve(settings: Settings, **options: Any) -> None:
    """Serve until a signal comes. *options* go to `create_app`. Raises `Problem` when it cannot start."""
    give_memory_back()
    logs.configure(settings.log_level)
    anyio.run(_serve, settings, options, backend_options={"use_uvloop": True})


def give_memory_back() -> None:
    """Bound the fragmentation by threads and large blocks where the C library is glibc; elsewhere nothing happens."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, ARENAS)
        mallopt(_M_MMAP_THRESHOLD, OWN_MAPPING_BYTES)


def steady() -> None:
    """For a process that decodes many documents in threads: a fifth less time, and a loop that answers sooner.

    What start-up made is never garbage, and pages of documents hold no cycles, so the collector need not look at all of
    it after every few hundred of them. The loop gets its turn after a millisecond, where five are the default.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    sys.setswitchinterval(0.001)


async def _serve(settings: Settings, options: dict[str, Any]) -> None:
    app = create_app(settings, **options)
    with listening(settings) as listener:
        async with app.router.lifespan_context(app):
            steady()
            log.info("listening", host=settings.host, port=listener.getsockname()[1])
            with calm_signals():
                await Server(server_config(app, settings), app.state.parts.draining).serve([listener])


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """The address that settings name, taken before anything is started; callers wait until somebody accepts.

    The protocol is named because the event loop switches Nagle's algorithm off only where it is: with it, each answer
    of a kept connection waits for the caller's delayed acknowledgement, 40 ms.

    Raises `Problem(code="port_taken")`.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((settings.host, settings.port))
            made.listen(BACKLOG)
        except OSError as error:
            raise Problem(
                f"{settings.host} port {settings.port} cannot be listened on ({error.strerror}): "
                "stop what listens there, or set RESHELVE_HOST and RESHELVE_PORT.",
                code="port_taken",
            ) from error
        yield made


@contextmanager
def calm_signals() -> Iterator[None]:
    """Uvicorn raises a signal again once it has stopped; inside the block that is no news any more."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def server_config(app: Any, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves *app*: no logs and no start of its own."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, int(settings.drain_seconds)),
    )
