"""A service that is killed again and again while the writer goes on; the same proof afterwards.

    python -m tests.soak.kills --engine URL --kills 100

The service runs as a process of its own and gets no chance to say a word (`kill -9`), at any moment from the first that
it answers. What it held is taken back when its lease has run out; a point in time through which it listed one of our
own indices ends by itself. A sender that gets no answer sends again. An entry that lost all its lives to us is replayed
at the end, as an operator would; how many those were is told.
"""

import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx

from app import events, sweeper
from app.db import heard
from app.sync.holdings import KEEP_ALIVE
from tests.failure.process import Process, process
from tests.soak.__main__ import arguments, folder_of, logged, settings_of
from tests.soak.facts import contexts
from tests.soak.road import Told
from tests.soak.soak import Proof, Scene, scene
from tests.stack import Stack, stack

LIFE = (0.2, 7.0)
"""Seconds from the first answer of a process to its end, at least and at most."""

AGAIN_SECONDS = 0.2
"""A sender that got no answer asks again so soon."""

LEFT_SECONDS = KEEP_ALIVE + 90
"""A point in time of the dead is gone after this: its keep-alive, and the minute between two looks of an engine."""

HASHING = {"RESHELVE_EMBEDDERS__HASHING__TIMEOUT": "60"}
"""The service has the embedder of these catalogues."""


class Victim:
    """The service as a sender knows it: sometimes there, sometimes not."""

    def __init__(self, name: str) -> None:
        self._path = f"/catalogues/{name}/events"
        self.process: Process | None = None

    async def send(self, notices: Sequence[Told]) -> Mapping[str, int]:
        """Until somebody answers that these are accepted."""
        never = anyio.Event()
        while True:
            try:
                answer = await self.process.ask("POST", self._path, {"events": list(notices)}) if self.process else None
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 202:
                return dict(answer.json())
            assert answer is None or answer.status_code in (429, 503), answer.text
            await heard(never, AGAIN_SECONDS)


async def killed(url: str, folder: Path, *, kills: int, seed: int, waits: bool = True, **settings: Any) -> Proof:
    """So many kills in a row under load, and the proof; unless it *waits*, the dead may leave points in time."""
    async with stack(url, folder, works=False, lease_seconds=5, **settings) as here:
        victim = Victim(here.name)
        async with scene(here, seed, victim.send, None) as made:
            first = await here.work()
            await made.begin()
            await first.drain()
            async with made.commotion():
                await slaughter(made, victim, kills, random.Random(seed + 3))
                async with process(here, **HASHING) as last:
                    victim.process = last
                    await here.work()
                    made.over.set()
                    await made.settled.wait()
            replayed = await revived(here)
            if waits:
                await expired(here)
            proof = await made.proven()
    found = [one for one in proof.found if waits or one.check != "points"]
    told = {**proof.summary, "differences": len(found), "kills": kills, "replayed": replayed}
    return Proof(told, found, proof.journal, proof.report)


async def slaughter(made: Scene, victim: Victim, kills: int, dice: random.Random) -> None:
    """One process after the other."""
    for number in range(kills):
        async with process(made.here, **HASHING) as doomed:
            victim.process = doomed
            await anyio.sleep(dice.uniform(*LIFE))
            await doomed.kill()
            made.journal.say("killed", number=number)


async def revived(here: Stack) -> int:
    """What was given up because it was in the hands of too many of the dead; how many entries."""
    wanted = events.Wanted(reason="killed by us", reason_code="kills_worker")
    async with here.db.writing() as session:
        return await events.replay(session, here.name, wanted, "operator")


async def expired(here: Stack) -> None:
    """Wait for what ends by itself, as long as that may take; what is there still is the proof's to tell."""
    await sweeper.sweep(here.db, here.connections)
    never = anyio.Event()
    with anyio.move_on_after(LEFT_SECONDS):
        while any(contexts(here).values()):
            await heard(never, 1.0)


async def _killed(asked: Any) -> int:
    proof = await killed(asked.engine, asked.folder, kills=asked.kills, seed=asked.seed, **settings_of(asked))
    print(proof)
    return len(proof.found)


def main() -> None:
    """Read the command line, kill, say what was found."""
    parser = arguments()
    parser.add_argument("--kills", type=int, default=100)
    asked = parser.parse_args()
    asked.folder = folder_of(asked)
    logged(asked.folder)
    sys.exit(1 if anyio.run(_killed, asked) else 0)


if __name__ == "__main__":
    main()
