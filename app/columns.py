"""Types of columns that both databases hold alike, and times as people read them."""

from datetime import UTC, datetime

from sqlalchemy import DateTime, Dialect, TypeDecorator
from sqlalchemy import Text as SqlText

from app.errors import Invalid


class Text(TypeDecorator[str]):
    """Text that both databases can hold: Postgres refuses NUL, and an unpaired surrogate cannot be encoded at all."""

    impl = SqlText
    cache_ok = True
    python_type = str

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        """Raise `Invalid` for such text, also where it is only compared with a column."""
        if value is not None and ("\x00" in value or not _encodable(value)):
            raise Invalid("A text holds a NUL or an unpaired surrogate: remove that character.", code="invalid_text")
        return value


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class Utc(TypeDecorator[datetime]):
    """An aware UTC datetime; SQLite forgets the zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True
    python_type = datetime

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Refuse naive values: a wrong hour is worse than an error."""
        if value is not None and value.tzinfo is None:
            raise ValueError("naive datetime")
        return value.astimezone(UTC) if value else value

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Aware again."""
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


def utc_now() -> datetime:
    """The process's clock, for times that people read; never for a lease."""
    return datetime.now(UTC)


def iso(value: datetime | None) -> str | None:
    """*value* as clients read it: UTC, milliseconds, `Z`."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if value else None


def from_ms(value: int | None) -> str | None:
    """Milliseconds since 1970 (the database's clock) as clients read a time."""
    return None if value is None else iso(datetime.fromtimestamp(value / 1000, UTC))
