"""Figures of result lists against values reckoned by hand."""

from math import log2

import pytest

from app.sync.ranking import drawn, ndcg, overlap, rank_moves, recall

GAINS = {"a": 3.0, "b": 2.0, "c": 3.0, "d": 0.0, "e": 1.0, "f": 2.0}


@pytest.mark.parametrize(
    ("left", "right", "share"),
    [
        ("abcd", "abcd", 1.0),
        ("abcd", "dcba", 1.0),
        ("abcd", "abxy", 0.5),
        ("abcd", "ab", 0.5),
        ("ab", "abcd", 0.5),
        ("ab", "xy", 0.0),
        ("ab", "", 0.0),
        ("", "", 1.0),
        ("aab", "ab", 1.0),
    ],
)
def test_overlap_is_the_share_of_common_ids_of_the_longer_list(left: str, right: str, share: float) -> None:
    assert overlap(list(left), list(right)) == share


def test_moves_name_only_what_moved() -> None:
    assert rank_moves(list("abcd"), list("acbe")) == {"b": (2, 3), "c": (3, 2), "d": (4, None), "e": (None, 4)}
    assert list(rank_moves(list("abcd"), list("acbe"))) == ["b", "c", "d", "e"]
    assert rank_moves(list("ab"), list("ab")) == {}


def test_ndcg_by_hand() -> None:
    """The textbook's list of gains 3, 2, 3, 0, 1, 2: 6.861 of 7.141."""
    found = 3 + 2 / log2(3) + 3 / 2 + 0 + 1 / log2(6) + 2 / log2(7)
    best = 3 + 3 / log2(3) + 2 / 2 + 2 / log2(5) + 1 / log2(6)
    assert ndcg(list("abcdef"), GAINS) == pytest.approx(found / best)
    assert ndcg(list("abcdef"), GAINS) == pytest.approx(0.9608, abs=1e-4)


def test_ndcg_looks_at_the_first_k_on_both_sides() -> None:
    assert ndcg(list("xa"), {"a": 1.0}, k=1) == 0.0
    assert ndcg(list("xa"), {"a": 1.0}) == pytest.approx(1 / log2(3))
    assert ndcg(list("ab"), {"a": 1.0, "b": 1.0, "c": 1.0}, k=2) == 1.0
    assert ndcg(["a"] * 5, {"a": 1.0, "b": 1.0}, k=5) == pytest.approx(1 / (1 + 1 / log2(3)))


def test_what_nobody_judged_useful_gives_nothing() -> None:
    for gains in ({}, {"a": 0.0}, {"a": -1.0}):
        assert ndcg(["a"], gains) == 0.0
        assert recall(["a"], gains, 10) == 0.0


def test_recall_by_hand() -> None:
    assert recall(list("axb"), GAINS, 3) == pytest.approx(2 / 5)
    assert recall(list("axb"), GAINS, 1) == pytest.approx(1 / 5)
    assert recall(list("dx"), GAINS, 10) == 0.0
    assert recall(list("fecba"), GAINS, 10) == 1.0
    assert recall(["a", "a", "b"], GAINS, 2) == pytest.approx(2 / 5)


def test_queries_are_drawn_evenly_and_once() -> None:
    assert drawn([f"name {number}" for number in range(100)], 4) == ["name 0", "name 25", "name 50", "name 75"]
    assert drawn(["red  hat", "red hat", None, " ", "blue\nhat"], 10) == ["red hat", "blue hat"]
    assert drawn([], 10) == []
    assert len(drawn(["x" * 500])[0]) == 200
