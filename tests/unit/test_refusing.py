"""How long a generation has refused: what tells of its model says nothing of its index, and the other way round."""

from types import SimpleNamespace
from typing import Any

import pytest

from app import refusing
from app.errors import EmbedderUnavailable, EngineUnavailable
from app.refusing import GAP, MODEL_PATIENCE, PATIENCE, Refusals
from app.sync.embedders.guarded import PORTION, Guarded
from app.sync.words import ModelStamp

pytestmark = pytest.mark.anyio


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1_000.0]
    monkeypatch.setattr(refusing.time, "monotonic", lambda: clock[0])
    return clock


class Starved(Refusals):
    def __init__(self) -> None:
        nothing: Any = None
        super().__init__(nothing, nothing)
        self.given_up: list[str] = []

    async def _starve(self, _claim: Any, fed: Any, _problem: Any) -> None:
        self.given_up.append(fed.generation)


RETIRED: Any = SimpleNamespace(generation="g1", state="retired")
LIVE: Any = SimpleNamespace(generation="g2", state="live")
NO_CLAIM: Any = None
MUTE, RED = EmbedderUnavailable("The model is out."), EngineUnavailable("A shard is red.")


async def test_prices_that_go_on_do_not_make_a_model_speak(now: list[float]) -> None:
    refusals = Starved()
    while now[0] < 1_000 + MODEL_PATIENCE:
        await refusals.met(NO_CLAIM, RETIRED, MUTE)
        assert refusals.given_up == []
        now[0] += GAP + 10
        refusals.over(["g1"], PATIENCE)
    await refusals.met(NO_CLAIM, RETIRED, MUTE)
    assert refusals.given_up == ["g1"]


async def test_a_model_that_spoke_begins_anew(now: list[float]) -> None:
    refusals = Starved()
    for _ in range(12):
        await refusals.met(NO_CLAIM, RETIRED, MUTE)
        now[0] += MODEL_PATIENCE / 4
        refusals.over(["g1"], MODEL_PATIENCE)
    assert refusals.given_up == []


async def test_an_index_that_takes_nothing_is_given_up_sooner_and_the_live_one_never(now: list[float]) -> None:
    refusals = Starved()
    for _ in range(4):
        for fed in (RETIRED, LIVE):
            await refusals.met(NO_CLAIM, fed, RED)
        now[0] += PATIENCE / 2
    assert set(refusals.given_up) == {"g1"}


async def test_settings_that_lack_an_embedder_hold_up_what_needs_it_and_nothing_else() -> None:
    """Opening it fails where a text is to be embedded, not where a claim is made ready."""
    calls: list[str] = []
    call = SimpleNamespace(**{name: lambda name=name: calls.append(name) for name in ("failed", "left", "succeeded")})
    breaker: Any = SimpleNamespace(enter=lambda: call)

    def missing() -> Any:
        raise EmbedderUnavailable("There is no key.", code="embedder_no_key")

    guarded = Guarded(missing, breaker, ModelStamp("m", "1", 8))
    assert (await guarded.ready()).alias == "m"
    assert [len(some) for some in guarded.portions(["x"] * (PORTION + 1))] == [PORTION, 1]
    with pytest.raises(EmbedderUnavailable, match="no key"):
        await guarded.embed(["x"])
    assert calls == ["failed", "left"]
