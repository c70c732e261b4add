"""Gateways that stand between a process and a server, so that something goes wrong at exactly one request.

    process ─▶ Gateway ─▶ engine          one request is held, lost, answered by us, or sent when nobody waits any more
    process ─▶ Passage ─▶ database        every connection breaks, and none is taken until it is mended

`async with gateway(url) as here:` listens at `here.url`. A `Hold` takes the first request that fits and tells
`reached`; the test then kills whom it likes and decides: `go` sends it on, `lose` breaks the caller's connection
while the request stays here, for a `go` that comes late. `answer=True` holds the answer of a request that was done.

A gateway may also be what a secured engine is: it speaks TLS, lets in who has the right credentials (`accepted`), and
lets nobody do what it was told to `forbid`.
"""

import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import anyio
from anyio.abc import AnyByteStream, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSListener

BROKEN = (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
LARGEST_HEAD = 65536


@dataclass(frozen=True)
class Message:
    """One request or answer, byte by byte."""

    head: bytes
    body: bytes

    @property
    def words(self) -> list[str]:
        """The first line: method and path, or status."""
        return self.head.split(b"\r\n", 1)[0].decode().split()

    @property
    def status(self) -> int:
        return int(self.words[1])


@dataclass
class Hold:
    """What waits for the first request that fits. `status` is what the engine said to it in the end."""

    fits: Callable[[Message], bool]
    answer: bool
    reached: anyio.Event = field(default_factory=anyio.Event)
    done: anyio.Event = field(default_factory=anyio.Event)
    status: int | None = None
    lost: anyio.Event = field(default_factory=anyio.Event)
    _decided: anyio.Event = field(default_factory=anyio.Event)

    def go(self) -> None:
        """On to where it was going."""
        self._decided.set()

    def lose(self) -> None:
        """Whoever waits for the answer sees a broken connection, and only that."""
        self.lost.set()

    async def passed(self, send: Callable[[], Awaitable[Message]]) -> Message:
        """Wait here, before or after the engine does what it is asked."""
        reply = await send() if self.answer else None
        self.reached.set()
        await self._decided.wait()
        reply = reply or await send()
        self.status = reply.status
        return reply


@dataclass
class Gateway:
    """One listener in front of one engine."""

    engine: str
    url: str
    group: anyio.abc.TaskGroup
    holds: list[Hold] = field(default_factory=list)
    lies: list[tuple[Callable[[Message], bool], Message]] = field(default_factory=list)
    accepted: str | None = None
    forbidden: list[Callable[[Message], bool]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    frozen: anyio.Event | None = None
    """While it is not set nothing that comes is answered, nor sent on."""

    def forbid(self, method: str, path: str, text: str = "") -> None:
        """Answer all requests that fit with 403, as a secured engine does; `refused` keeps what they were."""
        self.forbidden.append(fitting(method, path, text))

    def hold(self, method: str, path: str, text: str = "", *, answer: bool = False) -> Hold:
        """Hold the first request of *method* whose path matches *path* and whose body matches *text*."""
        self.holds.append(Hold(fitting(method, path, text), answer))
        return self.holds[-1]

    def say(self, status: int, method: str, path: str, text: str = "", *, body: bytes = b"{}", times: int = 1) -> None:
        """Answer the first requests that fit ourselves; the engine never hears of them."""
        self.lies += [(fitting(method, path, text), said(status, body))] * times

    async def serve(self, client: AnyByteStream) -> None:
        """All requests of one connection, one after the other."""
        asked = BufferedByteReceiveStream(client)
        async with client:
            with suppress(*BROKEN):
                while True:
                    request = await message(asked)
                    reply = await self._answered(request)
                    if reply is None:
                        return
                    await client.send(reply.head + reply.body)

    async def _answered(self, request: Message) -> Message | None:
        """None when the connection is to be broken off."""
        if self.frozen is not None:
            await self.frozen.wait()
        if self.accepted is not None and credentials(request) != self.accepted:
            return said(401, refusal("unable to authenticate"))
        if any(fits(request) for fits in self.forbidden):
            self.refused.append(" ".join(request.words[:2]))
            return said(403, refusal("the action is unauthorized for user [shop]"))
        for lie in self.lies:
            if lie[0](request):
                self.lies.remove(lie)
                return lie[1]
        hold = next((one for one in self.holds if one.fits(request)), None)
        if hold is None:
            return await self._sent(request)
        self.holds.remove(hold)
        return await self._held(hold, request)

    async def _held(self, hold: Hold, request: Message) -> Message | None:
        """The answer of a held request, unless its caller is to lose it; it goes on either way."""
        replies: list[Message] = []

        async def passing() -> None:
            with suppress(*BROKEN):
                replies.append(await hold.passed(lambda: self._sent(request)))
            hold.done.set()

        self.group.start_soon(passing)
        async with anyio.create_task_group() as either:
            for ends in (hold.done, hold.lost):
                either.start_soon(_first, ends, either.cancel_scope)
        return replies[0] if replies else None

    async def _sent(self, request: Message) -> Message:
        parts = urlsplit(self.engine)
        async with await anyio.connect_tcp(parts.hostname or "", parts.port or 80) as engine:
            await engine.send(request.head + request.body)
            return await message(BufferedByteReceiveStream(engine))


async def _first(ends: anyio.Event, scope: anyio.CancelScope) -> None:
    await ends.wait()
    scope.cancel()


def said(status: int, body: bytes) -> Message:
    """An answer of our own."""
    head = f"HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return Message(head.encode(), body)


def refusal(reason: str) -> bytes:
    """What the security of an engine says."""
    return b'{"error":{"root_cause":[],"type":"security_exception","reason":"%s"}}' % reason.encode()


def credentials(request: Message) -> str | None:
    """The `Authorization` of a request."""
    found = re.search(rb"\r\nauthorization:\s*([^\r]+)", request.head, re.IGNORECASE)
    return found[1].decode() if found else None


def fitting(method: str, path: str, text: str) -> Callable[[Message], bool]:
    """Whether a request is of this kind."""

    def fits(request: Message) -> bool:
        asked, where = request.words[:2]
        return asked == method and bool(re.search(path, where) and re.search(text.encode(), request.body))

    return fits


async def message(stream: BufferedByteReceiveStream) -> Message:
    """The next message of a connection, its body as it came."""
    head = await stream.receive_until(b"\r\n\r\n", LARGEST_HEAD) + b"\r\n\r\n"
    if length := re.search(rb"\r\ncontent-length:\s*(\d+)", head, re.IGNORECASE):
        return Message(head, await stream.receive_exactly(int(length[1])))
    if not re.search(rb"\r\ntransfer-encoding:\s*chunked", head, re.IGNORECASE):
        return Message(head, b"")
    body, size = b"", -1
    while size:
        line = await stream.receive_until(b"\r\n", LARGEST_HEAD)
        size = int(line.split(b";")[0], 16)
        body += line + b"\r\n" + await stream.receive_exactly(size + 2)
    return Message(head, body)


@asynccontextmanager
async def gateway(
    engine: str, *, tls: ssl.SSLContext | None = None, accepted: str | None = None
) -> AsyncIterator[Gateway]:
    """A gateway in front of the engine at *engine*, as long as the block lasts.

    With *tls* it speaks HTTPS; *accepted* is the only `Authorization` that it lets in, None lets in everybody.
    """
    async with await _listener() as listener, anyio.create_task_group() as group:
        here = Gateway(engine, f"http{'s' if tls else ''}://127.0.0.1:{_port(listener)}", group, accepted=accepted)
        secured = TLSListener(listener, tls, standard_compatible=False) if tls else listener
        group.start_soon(secured.serve, here.serve)
        yield here
        group.cancel_scope.cancel()


# --- bytes alone -----------------------------------------------------------------------------------------------------


@dataclass
class Passage:
    """Passes bytes to a server until it is cut. `refused` counts those who came while it was, and wakes `knocked`."""

    host: str
    port: int
    url: str = ""
    refused: int = 0
    knocked: anyio.Event = field(default_factory=anyio.Event)
    _whole: bool = True
    _open: set[anyio.CancelScope] = field(default_factory=set)

    def cut(self) -> None:
        """Break every connection and take no other."""
        self._whole, self.knocked = False, anyio.Event()
        for scope in self._open:
            scope.cancel()

    def mend(self) -> None:
        """Take connections again."""
        self._whole = True

    async def serve(self, client: SocketStream) -> None:
        """One connection, both ways, until either side ends or it is cut."""
        async with client:
            if not self._whole:
                self.refused += 1
                self.knocked.set()
                return
            with anyio.CancelScope() as scope, suppress(*BROKEN):
                self._open.add(scope)
                server = await anyio.connect_tcp(self.host, self.port)
                async with server, anyio.create_task_group() as both:
                    both.start_soon(_pour, client, server, both.cancel_scope)
                    both.start_soon(_pour, server, client, both.cancel_scope)
            self._open.discard(scope)


async def _pour(source: AnyByteStream, sink: AnyByteStream, scope: anyio.CancelScope) -> None:
    with suppress(*BROKEN):
        async for piece in source:
            await sink.send(piece)
    scope.cancel()


@asynccontextmanager
async def passage(url: str) -> AsyncIterator[Passage]:
    """A passage to the server at *url*; its own `url` is the same with another port."""
    parts = urlsplit(url)
    here = Passage(parts.hostname or "", parts.port or 5432)
    async with await _listener() as listener, anyio.create_task_group() as group:
        here.url = url.replace(f"{here.host}:{here.port}", f"127.0.0.1:{_port(listener)}")
        group.start_soon(listener.serve, here.serve)
        yield here
        group.cancel_scope.cancel()


async def _listener() -> anyio.abc.SocketListener:
    multi = await anyio.create_tcp_listener(local_host="127.0.0.1")
    (listener,) = multi.listeners
    return listener


def _port(listener: anyio.abc.SocketListener) -> int:
    return int(listener.extra(anyio.abc.SocketAttribute.local_port))
