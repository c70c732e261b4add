"""The demo's service: started detached, found again, stopped; one that cannot start says why."""

import os

import pytest

from app.demo import background
from app.errors import Conflict, Problem
from app.listening import require_port
from tests.unit.fake_service import serving
from tests.unit.test_cli_local import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path):
    return {
        "RESHELVE_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'demo.db'}",
        "RESHELVE_ENGINES__MAIN__URL": f"http://127.0.0.1:{free_port()}",
    }


async def test_it_is_started_found_by_another_process_and_stopped(tmp_path, settings):
    try:
        started = await background.start(tmp_path, free_port(), settings)

        assert background.found(tmp_path) == started
        assert await background.answers(started)
        assert started.pid != os.getpid()
    finally:
        assert await background.stop(tmp_path)
    assert background.found(tmp_path) is None
    assert not await background.answers(started)
    assert not await background.stop(tmp_path)


async def test_one_that_cannot_start_gives_its_own_reason_and_leaves_nothing(tmp_path, settings):
    with pytest.raises(Problem, match="no token protects it"):
        await background.start(tmp_path, free_port(), settings | {"RESHELVE_HOST": "0.0.0.0"})

    assert background.found(tmp_path) is None


@pytest.mark.parametrize("record", ["", "{", '{"pid": 1}', '{"pid": 1, "port": 8000, "settings": {}}', "[]"])
async def test_a_record_that_means_no_living_service_of_ours_counts_for_nothing(tmp_path, record):
    (tmp_path / background.RECORD).write_text(record)

    assert background.found(tmp_path) is None
    assert not await background.stop(tmp_path)


def test_a_port_that_is_taken_is_told_with_the_cure():
    with serving() as taken:
        port = int(taken.url.rpartition(":")[2])
        with pytest.raises(Conflict, match=f"Port {port} on 127.0.0.1 is taken or not permitted: choose another"):
            require_port("127.0.0.1", port, "choose another")
