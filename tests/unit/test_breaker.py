"""The circuit breaker against what is promised of it, in any order of calls, answers and time."""

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from app.sync.breaker import FIRST, LONGEST, THRESHOLD, Breaker, Call


class World:
    """A clock and dice that the test holds."""

    def __init__(self) -> None:
        self.now, self.rolled = 100.0, 0.5
        self.breaker = Breaker("engine:main", clock=lambda: self.now, dice=lambda: self.rolled)

    def entered(self) -> Call:
        call = self.breaker.enter()
        assert call is not None
        return call

    def opened(self, times: int = THRESHOLD) -> None:
        for _ in range(times):
            self.entered().failed()

    def wait(self) -> None:
        self.now += LONGEST


@pytest.fixture
def world() -> World:
    return World()


# --- what is promised, one by one ------------------------------------------------------------------------------------


def test_it_opens_after_so_many_failures_in_a_row(world: World) -> None:
    world.opened(THRESHOLD - 1)
    assert not world.breaker.is_open
    world.entered().succeeded()
    world.opened(THRESHOLD - 1)
    assert not world.breaker.is_open
    world.entered().failed()
    assert (world.breaker.is_open, world.breaker.opened, world.breaker.enter()) == (True, 1, None)


def test_one_probe_at_a_time_and_its_success_closes(world: World) -> None:
    world.opened()
    world.wait()
    probe = world.entered()
    assert probe.is_probe
    assert [world.breaker.enter() for _ in range(3)] == [None, None, None]
    probe.succeeded()
    assert not world.breaker.is_open
    assert not world.entered().is_probe


def test_each_probe_that_fails_doubles_the_wait_up_to_the_longest(world: World) -> None:
    world.rolled = 1.0
    world.opened()
    waits = []
    for _ in range(20):
        began = world.now
        while not world.breaker.admits:
            world.now += 0.5
        waits.append(world.now - began)
        world.entered().failed()
    assert waits[:4] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert waits[5:] == [LONGEST] * 15
    assert world.breaker.opened == 1


def test_after_it_closed_the_waits_begin_anew(world: World) -> None:
    world.rolled = 1.0
    world.opened()
    for _ in range(5):
        world.wait()
        world.entered().failed()
    world.wait()
    world.entered().succeeded()
    world.opened()
    world.now += FIRST
    assert world.breaker.admits


def test_a_probe_that_learnt_nothing_leaves_its_place_at_once(world: World) -> None:
    world.opened()
    world.wait()
    world.entered().left()
    assert world.breaker.is_open
    assert world.entered().is_probe


def test_a_cancelled_call_is_no_failure_and_no_success(world: World) -> None:
    world.opened(THRESHOLD - 1)
    for _ in range(5):
        world.entered().left()
    assert not world.breaker.is_open
    world.entered().failed()
    assert world.breaker.is_open


def test_late_answers_to_calls_from_before_decide_nothing(world: World) -> None:
    late = [world.entered() for _ in range(2 * THRESHOLD)]
    world.opened()
    late.pop().succeeded()
    assert world.breaker.is_open
    world.wait()
    probe = world.entered()
    late.pop().failed()
    assert (probe.is_probe, world.breaker.enter()) == (True, None)
    probe.succeeded()
    for call in late:
        call.failed()
    assert not world.breaker.is_open


def test_the_first_word_on_a_call_counts(world: World) -> None:
    call = world.entered()
    call.succeeded()
    for _ in range(THRESHOLD):
        call.failed()
    assert not world.breaker.is_open
    world.opened()
    world.wait()
    probe = world.entered()
    probe.failed()
    probe.left()
    probe.succeeded()
    assert (world.breaker.is_open, world.breaker.admits) == (True, False)


# --- any order -------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Out:
    """A call that is out, and the period in which it was let in: a new one begins with each opening and closing."""

    call: Call
    period: int
    is_probe: bool


class Machine(RuleBasedStateMachine):
    """What happens to one breaker; `row` are the failures in a row of this closed period, `tried` those of probes."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.period = self.row = self.tried = 0
        self.open = False
        self.since = 0.0
        self.probe: Out | None = None

    @property
    def breaker(self) -> Breaker:
        return self.world.breaker

    def turned(self, is_open: bool) -> None:
        self.open, self.period, self.row, self.tried, self.since = is_open, self.period + 1, 0, 0, self.world.now

    @rule(target=calls)
    def enter(self) -> Out | None:
        call = self.breaker.enter()
        waited = self.world.now - self.since
        most = min(LONGEST, FIRST * 2**self.tried)
        if not self.open:
            assert call is not None
        elif self.probe is not None or waited < most / 2:
            assert call is None
        elif waited >= most:
            assert call is not None
        if call is None:
            return None
        out = Out(call, self.period, self.open)
        assert call.is_probe == self.open
        if self.open:
            self.probe = out
        return out

    @rule(out=consumes(calls))
    def succeed(self, out: Out | None) -> None:
        if out is None:
            return
        out.call.succeeded()
        if out is self.probe:
            self.probe = None
            self.turned(False)
        elif not self.open and out.period == self.period:
            self.row = 0

    @rule(out=consumes(calls))
    def fail(self, out: Out | None) -> None:
        if out is None:
            return
        out.call.failed()
        if out is self.probe:
            self.probe, self.tried, self.since = None, self.tried + 1, self.world.now
        elif not self.open and out.period == self.period:
            self.row += 1
            if self.row == THRESHOLD:
                self.turned(True)

    @rule(out=consumes(calls))
    def leave(self, out: Out | None) -> None:
        if out is None:
            return
        out.call.left()
        if out is self.probe:
            self.probe = None

    @rule(seconds=st.sampled_from([0.1, 0.5, 1, 2, 10, LONGEST]), dice=st.floats(0, 1))
    def later(self, seconds: float, dice: float) -> None:
        self.world.now += seconds
        self.world.rolled = dice

    @precondition(lambda self: self.open and self.probe is None)
    @rule()
    def after_the_longest_wait_somebody_may_try(self) -> None:
        self.world.now += LONGEST
        assert self.breaker.admits

    @invariant()
    def it_is_open_when_it_should_be(self) -> None:
        assert self.breaker.is_open == self.open
        assert self.breaker.admits or self.open


TestAnyOrder = Machine.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
