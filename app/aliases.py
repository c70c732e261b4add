"""Where an alias stands in the engine, beside what the database says of it, and whether a switch could work.

| the alias is on      | the database's live one | meaning                                                         |
|----------------------|-------------------------|-----------------------------------------------------------------|
| nothing              | none                    | the first promotion creates it                                  |
| one index            | none                    | the first promotion takes it over (`origin: foreign`)           |
| the live index       | the same                | as it should be                                                 |
| nothing or one other | its index is gone       | somebody deleted it: the next promotion begins anew             |
| anything else        | is there                | somebody moved the alias: nobody but a person can say who is right |

The number of the next switch is an alias too. It is on the live index, or, where none is live (the first two and the
fourth line), on the draft, which is born with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import col, select

from app import catalogues, generations
from app.db import Database, ReadSession
from app.models import Catalogue, Generation, Switch
from app.sync.engine_port import Reader
from app.sync.words import IndexInfo, Move

Finding = dict[str, str]


@dataclass(frozen=True, slots=True)
class Stand:
    """An alias at one moment. `live` is None too when the live generation's index is gone from the engine."""

    alias: str
    number: int
    open: Switch | None
    live: Generation | None
    lost: Generation | None
    on: Sequence[IndexInfo]

    @property
    def source(self) -> str | None:
        """The index that a promotion takes the alias from."""
        return self.live.index if self.live else self.on[0].name if self.on else None

    @property
    def token(self) -> str:
        """The alias that carries the number of the next switch."""
        return Move(self.alias, self.number, "", None, "").token


async def look(db: Database, target: Reader, name: str) -> Stand:
    """How catalogue *name*'s alias stands. Looks again when a switch happened in between; each look is one request,
    a second one when the alias is not where the database says."""
    while True:
        async with db.reading() as session:
            catalogue, live, opened = await _known(session, name)
        on = await target.resolve(catalogue.alias)
        gone = live is not None and not _among(on, live) and not await target.resolve(live.index)
        async with db.reading() as session:
            again, _, _ = await _known(session, name)
        if again.switch_number == catalogue.switch_number:
            here, lost = (None, live) if gone else (live, None)
            return Stand(catalogue.alias, catalogue.switch_number, opened, here, lost, on)


async def _known(session: ReadSession, name: str) -> tuple[Catalogue, Generation | None, Switch | None]:
    return await catalogues.get(session, name), await generations.live(session, name), await open_switch(session, name)


async def open_switch(session: ReadSession, name: str) -> Switch | None:
    """The switch of a catalogue that is not settled yet."""
    query = select(Switch).where(col(Switch.catalogue) == name, col(Switch.state) == "open")
    return (await session.exec(query, execution_options={"populate_existing": True})).first()


def findings(stand: Stand) -> list[Finding]:
    """What is wrong with the alias, as `{"code", "detail"}`; empty when a switch could work."""
    alias, on = stand.alias, stand.on
    names = ", ".join(sorted(info.name for info in on))
    if any(info.name == alias for info in on):
        return [_finding("alias_is_index", f"{alias} is an index, not an alias: rename it or declare another alias.")]
    if len(on) > 1:
        return [_finding("alias_ambiguous", f"Alias {alias} is on several indices ({names}): leave it on one of them.")]
    found = []
    if on and on[0].aliases.get(alias):
        found.append(_finding("alias_filtered", f"Alias {alias} has a filter or routing: put it on {names} without."))
    if stand.live:
        found += _against(stand, stand.live)
    return found


def _against(stand: Stand, live: Generation) -> list[Finding]:
    alias = stand.alias
    if not _among(stand.on, live):
        where = f"on {stand.on[0].name}" if stand.on else "on no index"
        cure = f"put it back on {live.index}, or delete {live.index} to let the next run begin from where it is"
        return [_finding("alias_moved", f"Somebody moved alias {alias}: it is {where}, ours is {live.index}; {cure}.")]
    if stand.token not in stand.on[0].aliases:
        return [_finding("switch_lost", f"Index {live.index} lacks the alias {stand.token}: add it to that index.")]
    return []


def _among(on: Sequence[IndexInfo], generation: Generation) -> bool:
    return any(info.name == generation.index for info in on)


def _finding(code: str, detail: str) -> Finding:
    return {"code": code, "detail": detail}
