"""What an index holds, in a few bytes a document: found, seen, unseen; and met with what should be there."""

import numpy as np
import pytest

from app.sync.holdings import Gathered, Holdings, id_keys, input_keys
from app.sync.prove_content import Expected
from app.sync.words import Holding


def digest(number: int) -> str:
    return f"{number:016x}" + "0" * 48


def holdings(**inputs: int) -> Holdings:
    gathered = Gathered()
    for product, number in inputs.items():
        gathered.add(id_keys([product]), input_keys([digest(number)]))
    return gathered.holdings()


def page(**inputs: int) -> Holding:
    return Holding(list(inputs), [digest(number) for number in inputs.values()], ["" for _ in inputs], [1])


def all_of(table: Holdings) -> tuple[Holdings, np.ndarray]:
    return table, np.ones(len(table), np.bool_)


def test_what_is_seen_is_told_as_new_other_or_the_same() -> None:
    held = holdings(a=1, b=2, c=3)
    here, same = held.see(id_keys(["a", "b", "x"]), input_keys([digest(1), digest(9), digest(5)]))
    assert (here.tolist(), same.tolist()) == ([True, True, False], [True, False, False])
    assert held.unseen == 1
    assert held.has_unseen(id_keys(["a", "b", "c", "x"])).tolist() == [False, False, True, False]
    held.unsee(id_keys(["a", "x"]))
    assert held.has_unseen(id_keys(["a", "b", "c"])).tolist() == [True, False, True]


def test_what_was_seen_in_another_form_is_held_in_that_form_from_then_on() -> None:
    held = holdings(a=1)
    held.see(id_keys(["a"]), input_keys([digest(2)]))
    assert held.same(held.places(id_keys(["a"])), input_keys([digest(2)])).tolist() == [True]


def test_nothing_holds_nothing() -> None:
    held = holdings()
    here, same = held.see(id_keys(["a"]), input_keys([digest(1)]))
    assert (here.tolist(), same.tolist(), held.unseen) == ([False], [False], 0)
    assert held.has_unseen(id_keys(["a"])).tolist() == [False]
    held.unsee(id_keys(["a"]))


def test_a_document_without_an_input_hash_is_never_the_same() -> None:
    gathered = Gathered()
    gathered.add(id_keys(["a"]), input_keys([""]))
    _, same = gathered.holdings().see(id_keys(["a"]), input_keys([digest(1)]))
    assert same.tolist() == [False]


def test_a_product_takes_few_bytes() -> None:
    gathered = Gathered()
    for start in range(0, 100_000, 10_000):
        ids = [str(number) for number in range(start, start + 10_000)]
        gathered.add(id_keys(ids), input_keys([digest(number) for number in range(10_000)]))
    held = gathered.holdings()
    assert len(held) == 100_000
    assert (held._ids.nbytes + held._inputs.nbytes + held.seen.nbytes) / len(held) == 17
    assert held.places(id_keys(["99999", "-1"])).tolist()[1] == -1


# --- expected --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "missing", "strangers", "doubled", "stale"),
    [
        ({"a": 1, "b": 2, "n": 7}, 0, 0, 0, 0),
        ({"a": 1, "n": 7}, 1, 0, 0, 0),
        ({"a": 1, "b": 2, "n": 7, "ghost": 3}, 0, 1, 0, 0),
        ({"a": 1, "b": 2, "n": 6}, 0, 0, 0, 1),
        ({"a": 1, "ghost": 2, "n": 7}, 1, 1, 0, 0),
    ],
)
def test_what_is_there_is_met_with_what_should_be(
    there: dict[str, int], missing: int, strangers: int, doubled: int, stale: int
) -> None:
    expected = Expected([all_of(holdings(n=7)), all_of(holdings(a=1, b=2))], set())
    expected.meet(page(**there))
    assert (expected.missing, expected.strangers) == (missing, strangers)
    assert (expected.doubled, expected.stale) == (doubled, stale)


def test_a_product_that_is_there_twice_is_told_on_one_page_and_on_two() -> None:
    expected = Expected([all_of(holdings(a=1, b=2))], set())
    expected.meet(Holding(["a", "a"], [digest(1), digest(1)], ["", ""], [1]))
    assert expected.doubled == 1
    expected.meet(page(a=1, b=2))
    assert (expected.doubled, expected.missing) == (2, 0)


def test_what_was_refused_should_not_be_there() -> None:
    expected = Expected([all_of(holdings(a=1, b=2))], {"b"})
    expected.meet(page(a=1, b=2))
    assert (expected.strangers, expected.unexpected, expected.missing) == (1, ["b"], 0)


def test_what_events_touched_is_excused_and_nothing_else() -> None:
    expected = Expected([all_of(holdings(n=7)), all_of(holdings(a=1, b=2))], set())
    expected.meet(page(a=9, ghost=3, other=4, n=7))
    assert (expected.missing, expected.strangers, expected.stale) == (1, 2, 1)
    expected.spare(id_keys(["a", "ghost"]))
    assert (expected.missing, expected.strangers, expected.stale) == (1, 1, 0)
    assert expected.unexpected == ["other"]
    expected.spare(id_keys(["b", "other"]))
    assert (expected.missing, expected.strangers, expected.unexpected) == (0, 0, [])
