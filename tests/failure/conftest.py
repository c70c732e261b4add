"""Where bad days differ by product, they are tried on one engine of each in every run."""

import pytest

BAD_DAYS = ("elasticsearch9", "opensearch3")


@pytest.fixture(scope="session", params=[pytest.param(name, marks=pytest.mark.engine) for name in BAD_DAYS])
def bad_day_url(request: pytest.FixtureRequest) -> str:
    """The address of an engine."""
    return str(request.getfixturevalue(request.param))
