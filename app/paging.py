"""Pages of a list: rows after a cursor, in the order of unique columns; the cursor is opaque to clients."""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from sqlalchemy import literal, tuple_
from sqlmodel.sql.expression import SelectOfScalar

from app.db import ReadSession
from app.errors import Invalid

LONGEST = 500
"""Rows that one page holds at most."""

Row = TypeVar("Row")
Page = tuple[Sequence[Row], str | None]
"""Some rows, and the cursor of the next page, None on the last one."""


async def page(
    session: ReadSession,
    query: SelectOfScalar[Row],
    keys: Sequence[Any],
    limit: int,
    cursor: str | None,
    *,
    up: bool = False,
) -> Page[Row]:
    """The rows of *query* beyond *cursor*, ordered by the columns *keys* (together unique), newest first unless *up*.

    Raises `Invalid(code="cursor")` for a cursor that no page of this list gave out.
    """
    limit = min(max(limit, 1), LONGEST)
    if cursor:
        here = tuple_(*(literal(value, key.type) for key, value in zip(keys, decode(cursor, keys), strict=True)))
        query = query.where(tuple_(*keys) > here if up else tuple_(*keys) < here)
    order = [key.asc() if up else key.desc() for key in keys]
    rows = (await session.exec(query.order_by(*order).limit(limit + 1))).all()
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], encode([getattr(rows[limit - 1], key.key) for key in keys])


def encode(values: Sequence[Any]) -> str:
    """*values* of the key columns as a cursor."""
    return base64.urlsafe_b64encode(orjson.dumps(values)).rstrip(b"=").decode()


def decode(cursor: str, keys: Sequence[Any]) -> list[Any]:
    """What `encode` was given, checked against the columns' types. Raises `Invalid(code="cursor")`."""
    try:
        raw = orjson.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
        return [_typed(value, key) for value, key in zip(raw, keys, strict=True)]
    except (ValueError, TypeError, OverflowError, binascii.Error):
        raise Invalid("Leave out the cursor, or send one that this list answered.", code="cursor") from None


def _typed(value: Any, key: Any) -> Any:
    wanted = key.type.python_type
    if wanted is datetime:
        value = datetime.fromisoformat(value)
    if type(value) is not wanted or (wanted is int and abs(value) >= 2**63):
        raise ValueError(wanted)
    if wanted is datetime:
        value = _moment(value)
    return value


def _moment(value: datetime) -> datetime:
    """In UTC: databases cannot hold the moments that other offsets push out of the calendar."""
    if value.tzinfo is None:
        raise ValueError(value)
    return value.astimezone(UTC)
