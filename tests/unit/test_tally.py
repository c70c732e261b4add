"""What a run shows of itself while it works."""

from app.sync.tally import RATE_WINDOW, Tally
from app.sync.words import Batch, Receipt, Reject, Slice


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def loaded(tally: Tally, count: int, rejects: int = 0) -> None:
    left_out = [Reject(str(number), "engine", "mapping", "no") for number in range(rejects)]
    tally.loaded(Receipt(count, 10 * count, 1, 0, left_out))


def filling(clock: Clock, source: int = 1000) -> Tally:
    tally = Tally(clock)
    tally.add(source=source)
    tally.enter("filling")
    return tally


def test_the_rate_is_what_was_loaded_in_the_time_it_took_however_often_one_looks() -> None:
    clock = Clock()
    tally = filling(clock)
    for _ in range(4):
        clock.now += 1
        loaded(tally, 100)
        assert tally.view()["rate"] == 100.0
    assert tally.view()["remaining"] == 6.0


def test_the_rate_forgets_what_is_long_ago() -> None:
    clock = Clock()
    tally = filling(clock)
    loaded(tally, 900)
    clock.now += RATE_WINDOW + 1
    loaded(tally, 50)
    assert tally.view()["rate"] == 50 / RATE_WINDOW


def test_documents_are_those_that_are_through_and_reach_the_total() -> None:
    clock = Clock()
    tally = filling(clock, source=10)
    tally.add(read=10, excluded=3)
    clock.now += 1
    assert (tally.view()["documents"], tally.view()["of"]) == (3, 10)
    loaded(tally, 6, rejects=1)
    shown = tally.view()
    assert (shown["documents"], shown["of"], shown["remaining"]) == (10, 10, 0.0)


def test_outside_of_filling_there_is_no_rate() -> None:
    clock = Clock()
    tally = filling(clock)
    loaded(tally, 10)
    clock.now += 1
    tally.enter("sealing")
    assert (tally.view()["rate"], tally.view()["remaining"]) == (0.0, None)


def test_each_stage_has_its_own_seconds() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.enter("planning")
    clock.now += 2
    tally.enter("filling")
    clock.now += 3
    tally.view()
    clock.now += 4
    assert [(stage["stage"], stage["seconds"]) for stage in tally.view()["stages"]] == [("planning", 2), ("filling", 7)]


def test_progress_never_runs_backwards_also_when_a_draft_is_begun_anew() -> None:
    clock = Clock()
    tally, seen = filling(clock), []
    for _ in range(2):
        for _ in range(4):
            clock.now += 1
            tally.prepared(Batch(Slice(0, 1), 100, [], [], 0, unchanged=80))
            loaded(tally, 20)
            seen.append(tally.view()["documents"])
        tally.begin_again()
        tally.add(source=1000)
    assert seen == sorted(seen)
    assert (seen[-1], tally.view()["documents"]) == (400, 400)
    loaded(tally, 2000)
    assert (tally.view()["documents"], tally.view()["of"]) == (1000, 1000), (
        "a second look may find more than there were"
    )


def test_what_is_held_as_it_is_counts_for_the_rate() -> None:
    clock = Clock()
    tally = filling(clock)
    for _ in range(4):
        clock.now += 1
        tally.prepared(Batch(Slice(0, 1), 100, [], [], 0, unchanged=100))
    assert (tally.view()["rate"], tally.view()["remaining"]) == (100.0, 6.0)
