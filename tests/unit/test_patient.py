"""What an engine's passing trouble costs: waiting, where a second call is safe; the error itself, where it is not."""

from typing import Any, cast

import pytest

from app.config import Settings
from app.errors import EngineBusy, EngineError, EngineUnavailable, Problem
from app.sync.engine_port import Reader, Target, VectorStore
from app.sync.limits import Limits, Patience
from app.sync.patient import OF_A_STORE, ONCE, REPEATABLE, patient, patient_store

pytestmark = pytest.mark.anyio


class Moody:
    """Raises what it was given before it answers."""

    def __init__(self, *errors: Problem) -> None:
        self.errors, self.calls = list(errors), 0

    async def _answer(self, *_args: Any) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    page = move = bulk = keep = _answer


async def at_once(_seconds: float) -> None:
    return


def waiting(engine: Moody, told: list[Problem]) -> Any:
    limits = Limits.of(Settings(), Patience(attempts=4, sleep=at_once))
    return patient(engine, limits, told.append)  # type: ignore[arg-type]


async def test_a_read_goes_again_after_every_passing_trouble() -> None:
    engine, told = Moody(EngineBusy("429"), EngineUnavailable("time-out")), list[Problem]()
    assert await waiting(engine, told).page("pit") == "done"
    assert [type(error) for error in told] == [EngineBusy, EngineUnavailable]


async def test_a_move_goes_again_only_when_it_was_refused_unseen() -> None:
    assert await waiting(Moody(EngineBusy("429")), []).move("move") == "done"
    engine = Moody(EngineUnavailable("the answer was lost"))
    with pytest.raises(EngineUnavailable):
        await waiting(engine, []).move("move")
    assert engine.calls == 1


async def test_a_final_error_leaves_at_once() -> None:
    engine = Moody(EngineError("no"))
    with pytest.raises(EngineError):
        await waiting(engine, []).page("pit")
    assert engine.calls == 1


async def test_whatever_a_store_is_asked_goes_again() -> None:
    limits = Limits.of(Settings(), Patience(attempts=4, sleep=at_once))
    store = Moody(EngineBusy("429"), EngineUnavailable("time-out"))
    patiently: Any = patient_store(cast(VectorStore, store), limits, list[Problem]().append)
    assert await patiently.keep(["a"], None) == "done"


async def test_bulk_requests_have_their_own_loop() -> None:
    engine = Moody(EngineBusy("429"))
    with pytest.raises(EngineBusy):
        await waiting(engine, []).bulk("alias")


def test_every_call_that_talks_to_an_engine_is_named_once() -> None:
    calls = {name for port in (Reader, Target) for name in vars(port) if not name.startswith("_")}
    assert calls - REPEATABLE - ONCE == {"bulk", "lines", "deletions", "close", "store"}
    stores = {name for name in vars(VectorStore) if not name.startswith("_")}
    assert stores == OF_A_STORE
    assert not REPEATABLE & ONCE
