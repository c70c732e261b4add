"""Verbs that look after the process and its database: `serve`, `db upgrade`.

What they need is imported when they run: the other verbs should not wait for it.
"""

from typing import Annotated

import anyio
import typer

from app.cli import say
from app.cli.files import require_folder
from app.cli.verb import local
from app.config import load_settings
from app.listening import require_port


def add(app: typer.Typer, db: typer.Typer) -> None:
    """Add `serve` to *app* and `upgrade` to its group *db*."""
    local(app, "serve", serve)
    local(db, "upgrade", upgrade)


def serve(
    host: Annotated[str | None, typer.Option(help="Overrides RESHELVE_HOST.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Overrides RESHELVE_PORT.")] = None,
) -> None:
    """Run the service: API, page and worker in one process, until it is asked to stop."""
    given = {"host": host, "port": port}
    settings = load_settings().model_copy(update={name: value for name, value in given.items() if value is not None})
    from app.auth import check_listening
    from app.server import serve as listen

    check_listening(settings)
    require_folder(settings)
    require_port(settings.host, settings.port, "choose another with --port or RESHELVE_PORT")
    listen(settings)


def upgrade() -> None:
    """Bring the database's schema to this version's revision."""
    settings = load_settings()
    require_folder(settings)
    anyio.run(_upgrade, settings.database_url.get_secret_value())


async def _upgrade(url: str) -> None:
    from app.db import open_database

    db = await open_database(url)
    try:
        before, head = await db.revision()
        if before == head:
            say.words(f"{db.url} is at {head} already.")
            return
        await db.upgrade()
        say.words(f"{db.url} went from {before or 'nothing'} to {head}.")
    finally:
        await db.close()
