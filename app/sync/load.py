"""The bulk sender: lines go out in requests bounded by bytes, several at once, and each line's fate is known after.

        lines ─▶ cut by bytes ─▶ [shared bulk semaphore] ─▶ one request ─▶ items ─▶ loaded | again | reject
                                        ▲                                           │
                                        └────────── waits, only what was refused ◀──┘

- Whole request or single items 429, or the engine out of reach: only what was refused goes again, in its order, after
  a random wait that grows. No attempt is counted; time is: after `stall_deadline` seconds in which no line was
  settled, the last refusal leaves. The retry budget holds back only tries at an engine out of reach: a 429 is the
  engine setting the pace, and waiting is the whole answer to it.
- A request that the engine will never take (too large, or a line in it makes it invalid) is halved until the culprit
  stands alone; that one is a reject. Engines do not always say that they never will (Elasticsearch 9 counts a large
  request chunk by chunk), so a large one that was refused as a whole several times is halved, too.
- A stale version (409) is success: the engine holds something newer. A missing document to delete is one, too.
- The flood stage stops at once, a write block leaves as `Blocked`, and an alias that is gone means that another worker
  has taken the run over: `LeaseLost`.

While it waits it holds no place in the semaphore. Lines of one call have ids of their own, so their order across
requests does not matter.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from anyio import create_task_group

from app.errors import (
    Blocked,
    DiskFull,
    EngineBusy,
    EngineError,
    EngineUnavailable,
    IndexMissing,
    LeaseLost,
    Problem,
    TooLargeForEngine,
)
from app.sync.engine_port import Target
from app.sync.flow import plainly
from app.sync.limits import Limits, ignore
from app.sync.words import Item, Line, Receipt, Reject

BLOCK = "cluster_block_exception"
CONFLICT = "version_conflict_engine_exception"
VERSION = re.compile(r"current version \[(\d+)\]")
PASSING = frozenset({408, 429, 500, 502, 503, 504})

REFUSALS, SMALL = 3, 100_000
"""A request of more than SMALL bytes is halved after so many refusals as a whole; a smaller one just waits."""

Fate = type[Problem] | None
"""What an item's answer means: None taken, otherwise a problem, whose class says what to do."""


async def send(
    target: Target,
    alias: str,
    lines: Sequence[Line],
    limits: Limits,
    on_retry: Callable[[Problem], None] = ignore,
) -> Receipt:
    """Write *lines* through *alias*; what became of them. *on_retry* is told what each new try follows.

    Raises `DiskFull`, `Blocked`, `LeaseLost`, or the last transient refusal when nothing moved for too long.
    """
    sending = _Sending(target, alias, limits, on_retry)
    with plainly():
        async with create_task_group() as group:
            for portion in cut(lines, limits.bulk_bytes):
                group.start_soon(sending.deliver, portion)
    return sending.receipt()


def cut(lines: Sequence[Line], most: int) -> Sequence[Sequence[Line]]:
    """*lines* in portions of at most *most* bytes, in order; a line that is larger alone stands alone."""
    portions: list[list[Line]] = []
    room = 0
    for line in lines:
        if not portions or line.size > room:
            portions.append([])
            room = most
        portions[-1].append(line)
        room -= line.size
    return portions


@dataclass
class _Sending:
    """One call of `send`: what it has achieved so far, and since when nothing has moved."""

    target: Target
    alias: str
    limits: Limits
    on_retry: Callable[[Problem], None]
    loaded: int = 0
    size: int = 0
    requests: int = 0
    retries: int = 0
    rejects: list[Reject] = field(default_factory=list)
    newest: int = 0
    moved_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.moved_at = self.limits.patience.clock()

    def receipt(self) -> Receipt:
        """What became of the lines."""
        return Receipt(self.loaded, self.size, self.requests, self.retries, tuple(self.rejects), self.newest)

    async def deliver(self, lines: Sequence[Line]) -> None:
        """Send *lines* until each one is loaded or rejected."""
        tries = 0
        self.limits.bulk_budget.sent()
        while lines:
            count = len(lines)
            lines, problem = await self._attempt(lines)
            tries = tries + 1 if len(lines) == count else 1
            if problem:
                await self._wait(tries, problem)
                if tries >= REFUSALS and isinstance(problem, EngineBusy) and _large(lines):
                    return await self._halve(lines, problem)
        return None

    async def _attempt(self, lines: Sequence[Line]) -> tuple[Sequence[Line], Problem | None]:
        """One request; the lines that must go again, and what for."""
        try:
            items = await self._request(lines)
        except IndexMissing as error:
            raise LeaseLost(f"Another worker took this run over, or its draft is gone: {error.detail}") from None
        except Blocked:
            raise
        except EngineUnavailable as error:
            return lines, error
        except EngineError as error:
            if not isinstance(error, TooLargeForEngine) and error.extra.get("engine_status") != 400:
                raise
            await self._halve(lines, error)
            return [], None
        return await self._settle(lines, items)

    async def _request(self, lines: Sequence[Line]) -> Sequence[Item]:
        async with self.limits.bulk:
            self.requests += 1
            self.size += sum(line.size for line in lines)
            return await self.target.bulk(self.alias, lines)

    async def _halve(self, lines: Sequence[Line], error: Problem) -> None:
        """Send each half on its own; a line that is refused alone is a reject."""
        if len(lines) == 1:
            return self._reject(lines[0], str(error.extra.get("engine_error") or error.code), error.detail)
        middle = len(lines) // 2
        await self.deliver(lines[:middle])
        await self.deliver(lines[middle:])
        return None

    async def _settle(self, lines: Sequence[Line], items: Sequence[Item]) -> tuple[Sequence[Line], Problem | None]:
        """Count what was taken and what was refused for good; the rest, with the problem it met."""
        fates = [fate(item) for item in items]
        answers = list(zip(lines, items, fates, strict=True))
        self._taken(fates.count(None))
        self.newest = max(self.newest, *(stored_version(item) for item in items), 0)
        stop = next(((item, why) for _, item, why in answers if why in (DiskFull, Blocked)), None)
        if stop:
            raise stop[1](f"The engine takes no documents through {self.alias}: {stop[0].reason}")
        for line, item, why in answers:
            if why is EngineError:
                self._reject(line, item.error or f"status_{item.status}", item.reason)
        if large := [(line, item) for line, item, why in answers if why is TooLargeForEngine]:
            await self._halve([line for line, _ in large], TooLargeForEngine(large[0][1].reason))
        again = [(line, item, why) for line, item, why in answers if why in (EngineBusy, EngineUnavailable)]
        if not again:
            return [], None
        _, item, why = again[0]
        assert why is not None
        problem = why(f"{len(again)} of {len(lines)} documents were refused: {item.reason}")
        return [line for line, _, _ in again], problem

    def _taken(self, count: int) -> None:
        if count:
            self.loaded += count
            self.moved_at = self.limits.patience.clock()

    def _reject(self, line: Line, code: str, detail: str) -> None:
        self.rejects.append(Reject(line.id, "engine", code, detail[:500]))
        self.moved_at = self.limits.patience.clock()

    async def _wait(self, tries: int, problem: Problem) -> None:
        """Wait before another try. Raises *problem* when nothing would have moved for too long by then."""
        patience, budget = self.limits.patience, self.limits.bulk_budget
        wait = patience.wait(tries, problem)
        if not isinstance(problem, EngineBusy):
            wait = max(wait, budget.delay())
            budget.spend(wait)
        if patience.clock() + wait - self.moved_at > self.limits.stall_deadline:
            raise problem
        self.retries += 1
        self.on_retry(problem)
        await patience.sleep(wait)


def _large(lines: Sequence[Line]) -> bool:
    return len(lines) > 1 and sum(line.size for line in lines) > SMALL


def stored_version(item: Item) -> int:
    """The version that the engine holds already of a line that came too late; 0 for any other line."""
    told = VERSION.search(item.reason) if item.error == CONFLICT else None
    return int(told.group(1)) if told else 0


def fate(item: Item) -> Fate:
    """What becomes of a line that was answered with *item*; branching on the error's type before its status."""
    if item.status < 300 or item.error == CONFLICT or (item.status == 404 and item.error is None):
        return None
    if item.error == BLOCK:
        return DiskFull if item.status == 429 else Blocked
    if item.error == TooLargeForEngine.code:
        return TooLargeForEngine
    if item.status in PASSING:
        return EngineBusy if item.status == 429 else EngineUnavailable
    return EngineError
