"""Dependencies that are out for a minute while a shop goes on (for moments: `tests/failure/test_event_troubles`)."""

from pathlib import Path

import pytest

from tests.soak.outages import database, embedder, engine, outage

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(600)]


async def test_an_engine_that_is_down_for_a_minute(any_engine_url: str, tmp_path: Path) -> None:
    proof = await outage(any_engine_url, tmp_path, engine(any_engine_url), seconds=60, seed=1)
    assert not proof.found, str(proof)


async def test_a_model_that_wants_nothing_for_a_minute(any_engine_url: str, tmp_path: Path) -> None:
    proof = await outage(any_engine_url, tmp_path, embedder(), seconds=60, seed=2)
    assert not proof.found, str(proof)


async def test_a_database_that_is_down_for_half_a_minute(
    any_engine_url: str, tmp_path: Path, postgres_url: str
) -> None:
    proof = await outage(any_engine_url, tmp_path, database(postgres_url), seconds=30, seed=3)
    assert not proof.found, str(proof)
