"""The twin and every real engine, and a name that no other test uses."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from app.config import EngineSettings
from app.sync.engine_port import Engine
from app.sync.engines import open_engine
from app.sync.engines.memory import MemoryEngine
from tests.contract.outbox import Outbox, outbox_on

REAL = ("elasticsearch9", "elasticsearch8", "opensearch3", "opensearch2")


@pytest.fixture(params=["memory", *[pytest.param(name, marks=pytest.mark.engine) for name in REAL]])
def engine_home(request: pytest.FixtureRequest) -> str:
    """Where the engine is: empty for the twin."""
    return "" if request.param == "memory" else request.getfixturevalue(request.param)


@pytest.fixture
async def engine(engine_home: str) -> AsyncIterator[Engine]:
    opened = await open_engine(EngineSettings(url=engine_home)) if engine_home else MemoryEngine()
    yield opened
    await opened.close()


@pytest.fixture
async def name(engine: Engine) -> AsyncIterator[str]:
    """A prefix for indices and aliases; what begins with it is dropped afterwards."""
    prefix = f"t{uuid4().hex[:12]}"
    yield prefix
    for info in await engine.listed(prefix):
        await engine.drop(info.name)


@pytest.fixture
async def outbox(database_url: str) -> AsyncIterator[Outbox]:
    """An outbox on either database."""
    async with outbox_on(database_url) as made:
        yield made
