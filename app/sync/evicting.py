"""What becomes of kept vectors that nobody needs: forgotten after some days, and never more than so many.

A key is needed as long as a kept generation has a document of its text. Documents do not say when they were looked at,
so the keys that have aged are met with the texts that the generations hold: those in use count as used now, the others
go. The generations are read only when something has aged, by their columns, 8 bytes a document.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from anyio import to_thread

from app.sync.engine_port import Engine, VectorStore
from app.sync.flow import Step, flow
from app.sync.holdings import Keys, holding_of
from app.sync.vectors import content_key
from app.sync.words import Holding, ModelStamp

PORTION = 1000
"""Keys that are judged at once."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A generation that is kept: its index and the model whose vectors it has."""

    index: str
    stamp: ModelStamp


async def evict(target: Engine, store: VectorStore, generations: Sequence[Kept], before: float, most: int) -> int:
    """Forget what no generation uses and nobody kept since *before* (Unix time), and what is over *most*; how many."""
    gone, now = 0, time.time()
    surplus = max(await store.size() - most, 0)
    in_use = None
    # Over the cap everything is looked at, however new, so that what is in use goes last.
    while aged := await store.aged(now if surplus > gone else before, PORTION):
        in_use = await keys_in_use(target, generations) if in_use is None else in_use
        used = [key for key in aged if _has(in_use, key)]
        await store.used(used, now)
        unused = sorted(set(aged) - set(used))
        await store.forget(unused)
        gone += len(unused)
    while surplus > gone and (oldest := await store.aged(now + PORTION, min(surplus - gone, PORTION))):
        await store.forget(oldest)
        gone += len(oldest)
    return gone


async def keys_in_use(target: Engine, generations: Sequence[Kept]) -> Keys:
    """The first 64 bits of every key that a document of *generations* stands for, sorted."""
    found = bytearray()
    for generation in generations:
        if not await target.resolve(generation.index):
            continue  # somebody deleted it

        async def take(page: Holding, stamp: ModelStamp = generation.stamp) -> None:
            found.extend((await to_thread.run_sync(_keys, page.texts, stamp)).tobytes())

        async with holding_of(target, generation.index, 1) as pages:
            await flow(pages, Step(take))
    return await to_thread.run_sync(lambda: np.unique(np.frombuffer(bytes(found), np.uint64)))


def _keys(texts: Sequence[str], stamp: ModelStamp) -> Keys:
    return np.fromiter((_short(content_key(text, stamp)) for text in texts), np.uint64, len(texts))


def _short(key: str) -> int:
    return int(key[:16], 16)


def _has(in_use: Keys, key: str) -> bool:
    short = np.uint64(_short(key))
    place = int(np.searchsorted(in_use, short))
    return place < len(in_use) and bool(in_use[place] == short)
