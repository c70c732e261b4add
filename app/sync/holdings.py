"""What an index of ours holds, in 17 bytes a document: who is there, made of which input, and who was seen since.

An id and an input hash are told by 64 bits each, sorted by id. Of 37 million catalogues of a million products, one has
two ids that share theirs; they are then taken for one product that is there twice, and the verdict refuses.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
from anyio import CancelScope, move_on_after, to_thread
from numpy.typing import NDArray

from app.sync.engine_port import Engine
from app.sync.flow import Step, flow
from app.sync.words import Holding, Slice

PAGE = 10_000
"""Documents of one answer: the most that engines give at once."""

KEEP_ALIVE, CLOSE_SECONDS = 300.0, 2.0

Keys = NDArray[np.uint64]
Flags = NDArray[np.bool_]


class Holdings:
    """Sorted ids with their inputs, and which of them were seen."""

    def __init__(self, ids: Keys, inputs: Keys) -> None:
        self._ids, self._inputs = ids, inputs
        self.seen: Flags = np.zeros(len(ids), np.bool_)

    @property
    def ids(self) -> Keys:
        """All of them, sorted."""
        return self._ids

    @property
    def doubled(self) -> int:
        """How many are there more than once."""
        return int(np.count_nonzero(self._ids[1:] == self._ids[:-1]))

    def __len__(self) -> int:
        return len(self._ids)

    def places(self, ids: Keys) -> NDArray[np.int64]:
        """Where each of *ids* stands, -1 where it does not."""
        if not len(self._ids):
            return np.full(len(ids), -1, np.int64)
        places = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return np.where(self._ids[places] == ids, places, -1).astype(np.int64)

    def same(self, places: NDArray[np.int64], inputs: Keys) -> Flags:
        """Whether what stands at each place is made of just this input."""
        if not len(self._inputs):
            return np.zeros(len(places), np.bool_)
        return np.asarray((places >= 0) & (self._inputs[places] == inputs))

    def see(self, ids: Keys, inputs: Keys) -> tuple[Flags, Flags]:
        """They are wanted, made of *inputs*: which of them are held, and which are held as they are."""
        places = self.places(ids)
        held, same = places >= 0, self.same(places, inputs)
        self.seen[places[held]] = True
        self._inputs[places[held]] = inputs[held]
        return held, same

    def spoil(self, ids: Keys) -> None:
        """What is held of them is not as it should be, whatever it was made of."""
        places = self.places(ids)
        self._inputs[places[places >= 0]] = 0

    def unsee(self, ids: Keys) -> None:
        """They are not wanted after all."""
        places = self.places(ids)
        self.seen[places[places >= 0]] = False

    def has_unseen(self, ids: Keys) -> Flags:
        """Which of *ids* are held and were not seen."""
        places = self.places(ids)
        return np.asarray((places >= 0) & ~self.seen[places]) if len(self) else np.zeros(len(ids), np.bool_)

    @property
    def unseen(self) -> int:
        """How many were not seen."""
        return int(len(self) - np.count_nonzero(self.seen))


class Gathered:
    """Ids and inputs as they come, until they become `Holdings`."""

    def __init__(self) -> None:
        self._pairs = bytearray()

    def add(self, ids: Keys, inputs: Keys) -> None:
        """Some more."""
        self._pairs += np.stack((ids, inputs), axis=1).tobytes()

    def holdings(self) -> Holdings:
        """All of them, sorted."""
        pairs = np.frombuffer(bytes(self._pairs), np.uint64).reshape(-1, 2)
        self._pairs.clear()
        order = np.argsort(pairs[:, 0], kind="stable")
        return Holdings(pairs[order, 0], pairs[order, 1])


def id_keys(ids: Sequence[str]) -> Keys:
    """64 bits for each id. CPU only."""
    digests = b"".join(blake2b(one.encode(errors="surrogatepass"), digest_size=8).digest() for one in ids)
    return np.frombuffer(digests, np.uint64)


def input_keys(hashes: Sequence[str]) -> Keys:
    """The first 64 bits of each input hash; nothing has one that no document of ours can have."""
    return np.fromiter(map(_short, hashes), np.uint64, len(hashes))


def _short(hashed: str) -> int:
    try:
        return int(hashed[:16] or "0", 16)
    except ValueError:  # none of ours: nothing is made of it
        return 0


# --- reading ---------------------------------------------------------------------------------------------------------


async def holdings_of(target: Engine, index: str, slices: int) -> Holdings:
    """What *index* holds now, as its own columns tell it."""
    gathered = Gathered()

    async def take(page: Holding) -> None:
        gathered.add(*await to_thread.run_sync(_keys, page))

    async with holding_of(target, index, slices) as pages:
        await flow(pages, Step(take))
    return await to_thread.run_sync(gathered.holdings)


def _keys(page: Holding) -> tuple[Keys, Keys]:
    return id_keys(page.ids), input_keys(page.inputs)


@asynccontextmanager
async def holding_of(
    target: Engine, index: str, slices: int, where: Sequence[Mapping[str, Any]] = ()
) -> AsyncIterator[Sequence[AsyncIterator[Holding]]]:
    """The pages of each slice of what *index* holds and *where* lets through, at one point in time."""
    pit = await target.open_pit(index, KEEP_ALIVE)
    try:
        yield [_pages(target, pit, Slice(number, slices), where) for number in range(slices)]
    finally:
        with CancelScope(shield=True), move_on_after(CLOSE_SECONDS):
            await target.close_pit(pit)


async def _pages(target: Engine, pit: str, part: Slice, where: Sequence[Mapping[str, Any]]) -> AsyncIterator[Holding]:
    page = await target.holding(pit, part, None, PAGE, where)
    while page.cursor is not None:
        yield page
        page = await target.holding(pit, part, page.cursor, PAGE, where)
