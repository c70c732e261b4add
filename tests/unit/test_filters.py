"""Filters become clauses that every engine takes, or findings."""

from typing import Any

import pytest

from app.errors import Invalid
from app.search.filters import clauses

FIELDS = {"made": "date", "size": "integer", "sold": "long", "weight": "float", "price": "double"}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("2026-11-25", "2026-11-25"),
        ("2026-11-25T10:00:00Z", "2026-11-25T10:00:00+00:00"),
        ("2026-11-25 10:00", "2026-11-25T10:00:00+00:00"),
        ("2026-W01", "2025-12-29T00:00:00+00:00"),
        ("2026-W01-1", "2025-12-29T00:00:00+00:00"),
        ("9999-12-31T23:59:59+23:59", "9999-12-31T00:00:59+00:00"),
    ],
)
def test_moments_are_sent_in_one_form(given: str, sent: str) -> None:
    assert clauses({"made": {"gte": given}}, FIELDS) == [{"range": {"made": {"gte": sent}}}]


@pytest.mark.parametrize(
    "wanted",
    [
        {"size": [2**31]},
        {"size": {"gte": -(2**31) - 1}},
        {"size": 1.5},
        {"sold": {"lte": 2**63}},
        {"sold": 2.0**63},
        {"weight": 1e39},
        {"price": float("nan")},
        {"made": "0001-01-01T00:00:00+23:59"},
        {"made": 5},
    ],
)
def test_what_a_field_cannot_hold_is_a_finding(wanted: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        clauses(wanted, FIELDS)
    assert [found["where"] for found in refused.value.errors] == [f"body.filter.{next(iter(wanted))}"]
    assert "bound" not in refused.value.errors[0]["why"]


def test_a_bound_need_not_be_whole() -> None:
    assert clauses({"size": {"gte": 1.5}}, FIELDS) == [{"range": {"size": {"gte": 1.5}}}]
