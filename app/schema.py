"""The schema's revisions: which one a database has, which one this version needs, and the way there (Alembic)."""

from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.engine import Connection

from alembic import command
from app.errors import Problem

SCRIPTS = Path(__file__).resolve().parent.parent / "alembic"


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration; `env.py` uses *connection* when there is one, else the settings' database."""
    if not (SCRIPTS / "env.py").is_file():
        raise Problem(f"No migrations: {SCRIPTS} must stand beside the package.", code="migrations_missing")
    made = Config()
    made.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def revision(connection: Connection) -> tuple[str | None, str]:
    """The revision *connection*'s database has (None before the first) and the one this version needs."""
    head = ScriptDirectory.from_config(config()).get_current_head()
    assert head is not None
    return MigrationContext.configure(connection).get_current_revision(), head


def known(name: str) -> bool:
    """Whether this version knows the revision *name*."""
    try:
        return ScriptDirectory.from_config(config()).get_revision(name) is not None
    except CommandError:
        return False


def upgrade(connection: Connection, target: str = "head") -> None:
    """Go up to *target* within the transaction of *connection*."""
    command.upgrade(config(connection), target)


def downgrade(connection: Connection, target: str = "base") -> None:
    """Go down to *target* within the transaction of *connection*."""
    command.downgrade(config(connection), target)
