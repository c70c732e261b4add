"""The database: one engine, sessions that read, sessions that write, its clock, and what it promises.

Reading and writing are two types. `reading()` is a transaction that the database itself keeps from writing.
`writing()` commits when its block ends cleanly and rolls back otherwise, also when it is cancelled; nothing else
commits. A commit that has begun is not interrupted.

SQLite has one writer: a writing session is `BEGIN IMMEDIATE`, so that what it reads stays true until it commits.
Writers of this process queue up in order; those of other processes wait for each other for `BUSY_SECONDS`. Readers
never wait (WAL). On Postgres (READ COMMITTED) rows that are read to be changed are locked with `FOR UPDATE`, always
in this order: run, then catalogue. Whoever takes them the other way round can deadlock with a run that ends.

Failures of the database leave here as `Unavailable(code="database_unavailable")`; they are transient.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app import schema
from app.dialects import BUSY_SECONDS, make_engine, now_ms, plain_failures, unavailable, wait_for_threads
from app.errors import Problem

CLOSE_SECONDS = 5.0
"""How long a rollback may take when its caller was cancelled, and a connection that was cut off to end."""


class ReadSession(AsyncSession):
    """One transaction that only reads. Functions that only read take this type."""


class WriteSession(ReadSession):
    """One transaction that may write. `topics` are rung on the bell once it has committed."""

    def ring(self, topic: str) -> None:
        """Wake those who listen to *topic*, after the commit."""
        self.info.setdefault("topics", set()).add(topic)


class Bell:
    """Wakes those in this process who wait for something in the database. Missing a ring costs them one poll."""

    def __init__(self) -> None:
        self._events: dict[str, anyio.Event] = {}

    def listen(self, topic: str) -> anyio.Event:
        """The event of the next ring. Take it *before* reading the database, wait on it after: no ring is missed."""
        return self._events.setdefault(topic, anyio.Event())

    def ring(self, topic: str) -> None:
        """Wake everybody who listens to *topic*."""
        if rung := self._events.pop(topic, None):
            rung.set()


async def heard(rung: anyio.Event, seconds: float) -> bool:
    """Wait for *rung*, at most *seconds*: other processes ring no bell here. Whether it rang."""
    with anyio.move_on_after(seconds):
        await rung.wait()
    return rung.is_set()


class Database:
    """One database and the only place that opens sessions on it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.bell = Bell()
        self._reader = engine.execution_options(postgresql_readonly=True)
        self._writer = engine.execution_options(reshelve_writes=True)
        self._turn = anyio.Lock() if self.dialect == "sqlite" else None

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.engine.dialect.name

    @property
    def url(self) -> str:
        """Where it is, without the password."""
        return self.engine.url.render_as_string(hide_password=True)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[ReadSession]:
        """A transaction that sees one committed state (SQLite) or committed rows (Postgres)."""
        async with _session(ReadSession(self._reader, expire_on_commit=False)) as session:
            yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[WriteSession]:
        """A transaction that commits when the block ends cleanly. Not to be nested.

        On SQLite no statement is interrupted: a connection that is closed in the middle of one keeps its lock until
        that is garbage. A cancel is heard at the end of the block, before anything is committed; that is soon, as the
        database is all that a block waits for.
        """
        async with self._writers_turn():
            with anyio.CancelScope(shield=self._turn is not None) as whole:
                async with _session(WriteSession(self._writer, expire_on_commit=False)) as session:
                    yield session
                    whole.shield = False
                    await anyio.lowlevel.checkpoint_if_cancelled()
                    with anyio.CancelScope(shield=True):
                        await session.commit()
        for topic in session.info.get("topics", ()):
            self.bell.ring(topic)

    @asynccontextmanager
    async def _writers_turn(self) -> AsyncIterator[None]:
        if self._turn is None:
            yield
            return
        await _acquire(self._turn)
        try:
            yield
        finally:
            self._turn.release()

    async def check_durable(self) -> None:
        """Raise `Problem(code="not_durable")` when a power cut could take back what was acknowledged."""
        async with self.reading() as session:
            if self.dialect == "sqlite":
                level = int(await _word(session, "PRAGMA synchronous"))
                weak = f"SQLite runs with synchronous={level}: it must be FULL (2)" if level < 2 else ""
            else:
                off = await _word(session, "SHOW synchronous_commit") == "off"
                weak = "Postgres runs with synchronous_commit=off: switch it on for this database" if off else ""
        if weak:
            raise Problem(f"{weak}; a power cut would lose acknowledged runs and numbers.", code="not_durable")

    async def revision(self) -> tuple[str | None, str]:
        """The schema's revision in this database (None: no tables yet) and the one this version is made for."""
        with plain_failures():
            async with self._reader.connect() as connection:
                return await connection.run_sync(schema.revision)

    async def upgrade(self) -> None:
        """Bring the schema to this version's revision, in one transaction; several at once wait for each other."""
        async with self._writers_turn():
            with plain_failures():
                async with self._writer.begin() as connection:
                    await connection.run_sync(schema.upgrade)

    async def close(self) -> None:
        """Close all connections."""
        with anyio.CancelScope(shield=True):
            await self.engine.dispose()
            await anyio.to_thread.run_sync(wait_for_threads, self.engine, CLOSE_SECONDS)


async def open_database(url: str) -> Database:
    """Open *url* (SQLite file or Postgres) and see that it answers. Raises `Invalid` or `Unavailable`."""
    database = Database(make_engine(url))
    try:
        async with database.reading() as session:
            await clock_ms(session)
    except BaseException:
        await database.close()
        raise
    return database


async def ensure_schema(db: Database) -> None:
    """What `serve` and `work` do first: SQLite is migrated, Postgres must be at head. Raises `Problem` with the cure.

    Nobody migrates a shared Postgres by starting a process; a schema newer than the code is never touched.
    """
    current, head = await db.revision()
    if current == head:
        return
    if current is not None and not schema.known(current):
        raise Problem(
            f"The database is at revision {current}, unknown to this version: run the newer version that made it.",
            code="database_newer",
        )
    if db.dialect != "sqlite":
        raise Problem(
            f"The database is at revision {current or 'none'}, this version needs {head}; run: reshelve db upgrade",
            code="database_outdated",
        )
    await db.upgrade()


async def clock_ms(session: ReadSession) -> int:
    """The database's clock, in milliseconds since 1970."""
    return (await session.exec(select(now_ms()))).one()


S = TypeVar("S", bound=ReadSession)


@asynccontextmanager
async def _session(session: S) -> AsyncIterator[S]:
    """Begin at once, so that a database out of reach shows here; roll back what was not committed."""
    with plain_failures():
        try:
            await session.connection()
            yield session
        finally:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await session.close()


async def _acquire(turn: anyio.Lock) -> None:
    try:
        with anyio.fail_after(BUSY_SECONDS):
            await turn.acquire()
    except TimeoutError as error:
        raise unavailable(error) from error


async def _word(session: ReadSession, statement: str) -> str:
    return str((await (await session.connection()).exec_driver_sql(statement)).scalar_one())
