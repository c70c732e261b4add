"""What the tests of the command line share."""

from collections.abc import Callable

import pytest

from app.cli import main
from tests.unit.fake_service import FakeService


@pytest.fixture
def reshelve(fake: FakeService, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a verb against the fake service of a test file: `(exit code, stdout, stderr)`."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--url", fake.url])
        out, err = capsys.readouterr()
        return code, out, err

    return run
