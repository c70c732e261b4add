"""A service that is killed at any moment while a writer goes on: twice here, a hundred in the long suites."""

from pathlib import Path

import pytest

from tests.soak.kills import killed

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

BOTH = ("elasticsearch9", "opensearch3")


async def test_a_service_that_is_killed_twice_loses_nothing(elasticsearch9: str, tmp_path: Path) -> None:
    proof = await killed(elasticsearch9, tmp_path, kills=2, seed=7, waits=False)
    assert not proof.found, str(proof)


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", BOTH)
async def test_a_service_that_is_killed_a_hundred_times(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    proof = await killed(str(request.getfixturevalue(name)), tmp_path, kills=100, seed=7)
    assert not proof.found, str(proof)
