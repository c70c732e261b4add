"""Where SQLite's file lies, and whether it can lie there: asked before the database is, for a better sentence."""

from pathlib import Path

from app.config import Settings
from app.errors import Invalid


def database_file(settings: Settings) -> Path | None:
    """The file of an SQLite database, None for a Postgres."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(settings.database_url.get_secret_value())
    except ArgumentError:
        raise Invalid("RESHELVE_DATABASE_URL is no database's address.", code="database_url") from None
    is_file = url.get_backend_name() == "sqlite" and url.database
    return Path(str(url.database)).absolute() if is_file else None


def require_folder(settings: Settings) -> None:
    """Raise `Invalid` when the folder of the database's file is not there."""
    file = database_file(settings)
    if file and not file.parent.is_dir():
        raise Invalid(f"The folder {file.parent} does not exist: make it, or change RESHELVE_DATABASE_URL.")
