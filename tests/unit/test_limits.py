"""Trying again: what is tried, how long is waited, and when it ends. No test sleeps: time is an argument."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config import Settings
from app.errors import EmbedderBusy, EmbedderError, EmbedderUnavailable, EngineBusy, EngineUnavailable, Problem
from app.sync.limits import Budget, Limits, Patience, retrying
from app.sync.pacing import Bucket, Pace, retry_after, seconds

pytestmark = pytest.mark.anyio


@dataclass
class Time:
    """A clock that moves only when somebody sleeps."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, wait: float) -> None:
        self.slept.append(wait)
        self.now += wait

    def patience(self, attempts: int = 8, dice: float = 1.0) -> Patience:
        return Patience(attempts=attempts, first=1, longest=30, clock=self, sleep=self.sleep, dice=lambda: dice)

    def budget(self, floor: int = 1000) -> Budget:
        return Budget(floor=floor, clock=self)


def failing(*errors: Problem) -> Callable[[], Awaitable[str]]:
    left = list(errors)

    async def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


async def test_an_answer_is_given_back_without_waiting() -> None:
    time = Time()
    assert await retrying(failing(), deadline=10, patience=time.patience(), budget=time.budget()) == "done"
    assert time.slept == []


async def test_a_final_error_leaves_at_once() -> None:
    time = Time()
    with pytest.raises(EmbedderError):
        await retrying(failing(EmbedderError("no")), deadline=10, patience=time.patience(), budget=time.budget())
    assert time.slept == []


async def test_waits_double_and_are_told_of() -> None:
    time, told = Time(), []
    errors = [EngineUnavailable(str(number)) for number in range(4)]
    call = failing(*errors)
    await retrying(call, deadline=100, on_retry=told.append, patience=time.patience(), budget=time.budget())
    assert time.slept == [1, 2, 4, 8]
    assert told == errors


@pytest.mark.parametrize(("dice", "expected"), [(0.0, [0, 0, 0]), (0.5, [0.5, 1, 2])])
async def test_jitter_takes_anything_below_the_ceiling(dice: float, expected: list[float]) -> None:
    time = Time()
    call = failing(*[EngineUnavailable()] * 3)
    await retrying(call, deadline=100, patience=time.patience(dice=dice), budget=time.budget())
    assert time.slept == expected


async def test_attempts_end() -> None:
    time = Time()
    with pytest.raises(EngineUnavailable, match="third"):
        await retrying(
            failing(EngineUnavailable("first"), EngineUnavailable("second"), EngineUnavailable("third")),
            deadline=100,
            patience=time.patience(attempts=3),
            budget=time.budget(),
        )
    assert len(time.slept) == 2


async def test_a_problem_may_bring_fewer_attempts() -> None:
    time = Time()
    call = failing(*[EmbedderUnavailable("garbage", attempts=2)] * 5)
    with pytest.raises(EmbedderUnavailable):
        await retrying(call, deadline=100, patience=time.patience(), budget=time.budget())
    assert len(time.slept) == 1


@pytest.mark.parametrize("busy", [EngineBusy, EmbedderBusy])
async def test_a_429_costs_no_attempt_but_time(busy: type[Problem]) -> None:
    time = Time()
    call = failing(*[busy() for _ in range(50)])
    assert await retrying(call, deadline=10_000, patience=time.patience(attempts=2), budget=time.budget()) == "done"
    assert max(time.slept) == 30

    time = Time()
    call = failing(*[busy() for _ in range(50)])
    with pytest.raises(busy):
        await retrying(call, deadline=100, patience=time.patience(attempts=2), budget=time.budget())
    assert sum(time.slept) <= 100


async def test_retry_after_is_kept_with_a_little_jitter() -> None:
    time = Time()
    call = failing(EmbedderBusy(retry_after=12.5))
    await retrying(call, deadline=100, patience=time.patience(dice=0.5), budget=time.budget())
    assert time.slept == [13]


async def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    time = Time()
    call = failing(EmbedderBusy(retry_after=3600))
    with pytest.raises(EmbedderBusy):
        await retrying(call, deadline=600, patience=time.patience(), budget=time.budget())
    assert time.slept == []


async def test_retries_stay_within_a_fifth_of_the_requests() -> None:
    time = Time()
    budget = Budget(share=0.2, floor=2, window=10, clock=time)
    for _ in range(20):
        budget.sent()
    for _ in range(4):
        assert budget.delay() == 0
        budget.spend(0)
    assert budget.delay() == 10
    time.now += 10
    assert budget.delay() == 0


async def test_a_used_up_budget_delays_a_retry_and_fails_nothing() -> None:
    time = Time()
    budget = Budget(floor=1, window=10, clock=time)
    budget.spend(0)
    await retrying(failing(EngineUnavailable()), deadline=100, patience=time.patience(dice=0), budget=budget)
    assert time.slept == [10]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(0, 5), max_size=60))
def test_no_window_ever_holds_more_retries_than_allowed(gaps: list[float]) -> None:
    time = Time()
    budget, sent = Budget(floor=3, window=10, clock=time), []
    for gap in gaps:
        time.now += gap
        wait = budget.delay()
        budget.spend(wait)
        sent.append(time.now + wait)
    assert all(sum(start < other <= start + 10 - 1e-6 for other in sent) < 3 for start in sent)


async def test_limits_come_from_the_settings() -> None:
    limits = Limits.of(Settings(embedding_concurrency=3, bulk_concurrency=5, bulk_bytes=20_000, stall_deadline=7))
    assert isinstance(limits.embedding, anyio.Semaphore)
    assert (limits.embedding.value, limits.embedding_hands) == (3, 3)
    assert (limits.bulk.value, limits.bulk_hands) == (5, 5)
    assert (limits.bulk_bytes, limits.stall_deadline) == (20_000, 7)


# --- pacing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20ms", 0.02),
        ("1s", 1),
        ("6m0s", 360),
        ("1h2m3s", 3723),
        ("1.5", 1.5),
        ("", None),
        ("soon", None),
        ("-1", None),
    ],
)
def test_durations_are_read_as_headers_write_them(text: str, expected: float | None) -> None:
    assert seconds(text) == expected


def test_retry_after_is_read_in_all_its_forms() -> None:
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after": "9"}) == 9
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "tomorrow"}) is None
    assert retry_after({}) is None


async def test_nothing_waits_while_nothing_is_known() -> None:
    time = Time()
    await Pace(time, time.sleep).turn(1_000_000)
    assert time.slept == []


async def test_a_minute_of_requests_takes_a_minute() -> None:
    time = Time()
    pace = Pace(time, time.sleep)
    pace.learn(
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "1m0s",
        }
    )
    for _ in range(10):
        await pace.turn(1)
    assert time.now == pytest.approx(1010)


async def test_tokens_are_paced_too_and_no_wait_is_endless() -> None:
    time = Time()
    pace = Pace(time, time.sleep)
    pace.learn(
        {"x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "100", "x-ratelimit-reset-tokens": "54s"}
    )
    await pace.turn(100)
    assert time.slept == []
    await pace.turn(500)
    assert time.slept == [pytest.approx(30)]
    pace.learn(
        {"x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1d"}
    )
    await pace.turn(10**9)
    assert time.slept[-1] == 60


async def test_all_keep_quiet_while_the_endpoint_wants_it() -> None:
    time = Time()
    pace = Pace(time, time.sleep)
    pace.pause(5)
    await pace.turn(1)
    assert time.slept == [5]


def test_a_bucket_trusts_the_lower_of_what_it_knows_and_what_it_is_told() -> None:
    bucket = Bucket()
    bucket.learn(100, 50, 30, 0)
    bucket.draw(40, 0)
    bucket.learn(100, 50, 30, 0)
    assert bucket.filled(0) == 10
    bucket.learn(100, 5, 57, 0)
    assert bucket.filled(0) == 5
    bucket.learn(None, 90, 1, 0)
    assert bucket.filled(0) == 5
