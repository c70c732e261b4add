"""Nothing is lost and nothing is left, whatever goes on at once: one minute here, hours in the long suites."""

from pathlib import Path

import pytest

from tests.soak.soak import soak

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

BOTH = ("elasticsearch9", "opensearch3")


def kind_of(request: pytest.FixtureRequest, name: str) -> str:
    return str(request.getfixturevalue(name))


async def test_a_minute_of_everything_at_once_leaves_no_difference(elasticsearch9: str, tmp_path: Path) -> None:
    proof = await soak(elasticsearch9, tmp_path, seconds=60, seed=7)
    assert not proof.found, str(proof)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", BOTH)
async def test_a_minute_with_other_dice(request: pytest.FixtureRequest, tmp_path: Path, name: str, seed: int) -> None:
    proof = await soak(kind_of(request, name), tmp_path, seconds=60, seed=100 + seed)
    assert not proof.found, str(proof)


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", BOTH)
async def test_ten_minutes_of_everything_at_once(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    proof = await soak(kind_of(request, name), tmp_path, seconds=600, seed=11)
    assert not proof.found, str(proof)
