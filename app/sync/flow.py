"""Plain functions lifted onto bounded channels in one task group: a slow step slows the ones before it.

        pages ═▶ [room] ═▶ step ═▶ [room] ═▶ step ═▶ ...

A step is `async def step(item) -> item | None`; `hands` of it run at once, `room` items wait before it. None goes no
further. When a source, a step or the caller fails or is cancelled, everything else is cancelled and has ended before
`flow` returns; the error leaves plainly, not as a group. What is in flight is bounded by items here and by bytes in
the pages themselves, whose size follows what arrives.
"""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from anyio import create_memory_object_stream, create_task_group
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

Inlet = MemoryObjectReceiveStream[Any]
Outlet = MemoryObjectSendStream[Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One function of the flow, how many run at once, and how many items may wait before it."""

    work: Callable[[Any], Awaitable[Any]]
    hands: int = 1
    room: int = 1


async def flow(sources: Sequence[AsyncIterable[Any]], *steps: Step) -> None:
    """Take every item of every source through every step; return when the last one is through."""
    with plainly():
        async with create_task_group() as group:
            outlet, inlet = create_memory_object_stream[Any](steps[0].room)
            for source in sources:
                group.start_soon(_pour, source, outlet.clone())
            outlet.close()
            for number, step in enumerate(steps):
                room = steps[number + 1].room if number + 1 < len(steps) else 0
                following, drained = create_memory_object_stream[Any](room)
                for _ in range(step.hands):
                    group.start_soon(_lift, step.work, inlet.clone(), following.clone())
                inlet.close()
                following.close()
                inlet = drained
            async with inlet:
                async for _ in inlet:
                    pass


async def _pour(source: AsyncIterable[Any], outlet: Outlet) -> None:
    async with outlet:
        async for item in source:
            await outlet.send(item)


async def _lift(work: Callable[[Any], Awaitable[Any]], inlet: Inlet, outlet: Outlet) -> None:
    async with inlet, outlet:
        async for item in inlet:
            result = await work(item)
            if result is not None:
                await outlet.send(result)


@contextmanager
def plainly() -> Iterator[None]:
    """Let an error leave a task group as itself: the first one that is not a mere consequence of a cancel."""
    try:
        yield
    except BaseExceptionGroup as group:
        _raise(group)


def _raise(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    leaves = list(_leaves(group))
    errors = [leaf for leaf in leaves if isinstance(leaf, Exception)]
    raise (errors or leaves)[0] from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
