"""Logs and figures."""

import io
import json
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import structlog
from prometheus_client import REGISTRY

from app import logs, telemetry
from app.errors import EmbedderUnavailable
from app.models import Run
from app.sync.words import Embedding, ModelStamp


@pytest.fixture
def told() -> Iterator[io.StringIO]:
    """What is logged while a test runs; the logging of the process is put back afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("INFO", stream)
    yield stream
    structlog.reset_defaults()
    root.handlers, root.level = before, level


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_line_is_json_with_the_ids_of_what_it_belongs_to(told: io.StringIO) -> None:
    with logs.bound(request_id="req-1", run_id=None), logs.bound(run_id="run-1"):
        structlog.get_logger("reshelve.test").info("something", text='"\n\ud800\u2028<', number=1)
        logging.getLogger("uvicorn.error").warning("theirs %s", "too", extra={"color_message": "x"})
    structlog.get_logger().info("outside")
    ours, theirs, outside = lines(told)
    assert (ours["event"], ours["level"], ours["logger"]) == ("something", "info", "reshelve.test")
    assert (ours["request_id"], ours["run_id"]) == (theirs["request_id"], theirs["run_id"]) == ("req-1", "run-1")
    assert (theirs["event"], theirs["level"]) == ("theirs too", "warning")
    assert "color_message" not in theirs
    assert "run_id" not in outside
    assert told.getvalue().isascii()


def test_chatty_libraries_are_quiet_and_a_stack_is_one_line(told: io.StringIO) -> None:
    logging.getLogger("httpx").info("GET http://user:password@host/")
    try:
        raise RuntimeError("x")
    except RuntimeError:
        structlog.get_logger().exception("unexpected")
    (only,) = lines(told)
    assert "RuntimeError" in only["exception"]


# --- figures ---------------------------------------------------------------------------------------------------------


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def figures(read: int, seconds: float, retries: int = 0) -> dict[str, Any]:
    errors = {"engine": retries, "embedder": 0, "data": 0}
    stage = {"stage": "filling", "seconds": seconds, "documents": read, "bytes": 10, "retries": retries}
    return {"counts": {"read": read, "loaded": None, "source": 99}, "stages": [{**stage, "errors": errors}]}


def test_figures_of_a_run_are_added_once_however_often_they_are_told() -> None:
    read = value("reshelve_documents_total", outcome="read")
    seconds = value("reshelve_stage_seconds_total", stage="filling")
    errors = value("reshelve_errors_total", stage="filling", origin="engine")
    telemetry.observe("r1", figures(10, 1.0))
    telemetry.observe("r1", figures(10, 1.0))
    telemetry.observe("r1", figures(25, 2.5, retries=3))
    now = datetime.now(UTC)
    run = Run(id="r1", catalogue="shop", strategy="full", state="failed", **figures(30, 3.0, retries=3))
    run.started_at, run.finished_at = now, now + timedelta(seconds=9)
    ended = value("reshelve_runs_total", strategy="full", state="failed")
    telemetry.run_finished(run)
    assert value("reshelve_documents_total", outcome="read") - read == 30
    assert value("reshelve_stage_seconds_total", stage="filling") - seconds == pytest.approx(3.0)
    assert value("reshelve_errors_total", stage="filling", origin="engine") - errors == 3
    assert value("reshelve_runs_total", strategy="full", state="failed") - ended == 1


class Scripted:
    """An embedder that embeds once and then is out of reach."""

    stamp = ModelStamp("scripted", "1", 2)
    calls = 0

    async def ready(self) -> ModelStamp:
        return self.stamp

    def portions(self, texts: Sequence[str]) -> Sequence[Sequence[str]]:
        return [texts]

    async def embed(self, texts: Sequence[str]) -> Embedding:
        self.calls += 1
        if self.calls > 1:
            raise EmbedderUnavailable
        return Embedding(np.ones((len(texts), 2), np.float32), tokens=7)

    async def close(self) -> None:
        return


@pytest.mark.anyio
async def test_calls_of_an_embedder_are_counted_with_their_results() -> None:
    calls, tokens = value("reshelve_embedding_calls_total", result="ok"), value("reshelve_embedding_tokens_total")
    failed = value("reshelve_embedding_calls_total", result="embedder_unavailable")
    embedder = telemetry.CountedEmbedder(Scripted())
    assert (await embedder.ready()).dims == 2
    await embedder.embed(["a", "b"])
    with pytest.raises(EmbedderUnavailable):
        await embedder.embed(["a"])
    assert value("reshelve_embedding_calls_total", result="ok") - calls == 1
    assert value("reshelve_embedding_calls_total", result="embedder_unavailable") - failed == 1
    assert value("reshelve_embedding_tokens_total") - tokens == 7
