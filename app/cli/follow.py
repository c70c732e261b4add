"""Watching a run until it is over: a bar on a terminal, a line every ten seconds elsewhere, both on stderr.

Progress lines are polled (`after` the last one seen), so nothing is lost or told twice, and a service that restarts
meanwhile is waited for. The run is read before its lines: once it is over, all its lines have been seen. The first
Ctrl-C detaches: the run goes on, unless it works in this very process.
"""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import anyio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from app.cli import say
from app.cli.exits import OVER
from app.cli.wire import Api
from app.errors import Unavailable

POLL_SECONDS = 0.5
LINE_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
"""How long a service that went away is waited for."""


async def follow(api: Api, run_id: str) -> Mapping[str, Any]:
    """The run, when it is over."""
    display = Bar() if sys.stderr.isatty() else Lines()
    try:
        with display.shown:
            return await _until_over(api, run_id, display)
    except anyio.get_cancelled_exc_class():
        _detached(api, run_id)
        raise


async def _until_over(api: Api, run_id: str, display: "Bar | Lines") -> Mapping[str, Any]:
    seen, heard = 0, time.monotonic()
    while True:
        try:
            run: Mapping[str, Any] = await api.get(f"/runs/{run_id}")
            lines = (await api.get(f"/runs/{run_id}/progress", after=seen))["items"]
        except Unavailable:
            if time.monotonic() - heard > PATIENCE_SECONDS:
                raise
            await anyio.sleep(POLL_SECONDS)
            continue
        heard = time.monotonic()
        for line in lines:
            seen = line["seq"]
            display.tell(line["kind"], line["data"])
        if run["state"] in OVER and not lines:
            return run
        display.tick()
        await anyio.sleep(0 if run["state"] in OVER else POLL_SECONDS)


def _detached(api: Api, run_id: str) -> None:
    if api.own:
        say.words(f"Run {run_id} worked in this process and ends with it; the alias stays where it was.", "yellow")
    else:
        say.words(f"Detached; run {run_id} goes on: reshelve watch {run_id}", "yellow")


class Bar:
    """The stage, how far it is, how fast it goes."""

    def __init__(self) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._row: TaskID = self._progress.add_task("queued", total=None, pace="")
        self.shown: AbstractContextManager[Any] = self._progress

    def tick(self) -> None:
        """Time passes, which a bar shows by itself."""

    def tell(self, kind: str, data: Mapping[str, Any]) -> None:
        """One progress line."""
        if kind == "counts":
            done = data.get("documents") or 0
            self._progress.update(self._row, completed=done, total=data.get("of"), pace=pace(data))
        elif kind in ("stage", "state"):
            self._progress.update(self._row, description=str(data.get(kind, "")))
        elif told := plain(kind, data):
            self._progress.console.print(told, highlight=False, markup=False)


class Lines:
    """A line when the stage changes, and every ten seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._told, self._stage = clock, clock(), "queued"
        self.shown: AbstractContextManager[Any] = nullcontext()

    def tick(self) -> None:
        """Time passes; a stage that has nothing to tell is told to go on."""
        if self._clock() - self._told >= LINE_SECONDS:
            self._say(f"{self._stage}: goes on")

    def tell(self, kind: str, data: Mapping[str, Any]) -> None:
        """One progress line."""
        if kind == "counts":
            if self._clock() - self._told >= LINE_SECONDS:
                self._say(f"{self._stage}: {figures(data)}")
        elif kind in ("stage", "state"):
            self._stage = str(data.get(kind, ""))
            self._say(self._stage)
        elif told := plain(kind, data):
            self._say(told)

    def _say(self, text: str) -> None:
        self._told = self._clock()
        say.words(text)


def figures(data: Mapping[str, Any]) -> str:
    """`1,200 of 2,000 products, 560/s, 2 s left`."""
    of = data.get("of")
    done = f"{data.get('documents') or 0:,}" + (f" of {of:,}" if of is not None else "")
    return ", ".join(part for part in (f"{done} products", pace(data)) if part)


def pace(data: Mapping[str, Any]) -> str:
    """`560/s, 2 s left`, as far as it is known."""
    rate, remaining = data.get("rate"), data.get("remaining")
    parts = [f"{rate:,.0f}/s" if rate else "", f"{remaining:,.0f} s left" if remaining is not None else ""]
    return ", ".join(part for part in parts if part)


def plain(kind: str, data: Mapping[str, Any]) -> str:
    """A note or a verdict in words; failed checks are told when the run is over."""
    if kind == "verdict":
        return f"verdict: {'passed' if data.get('passed') else 'refused'}"
    if data.get("moved") and data.get("index"):
        return say.clean(f"the alias moved to {data['index']}")
    if plan := data.get("plan"):
        return say.clean(f"{plan['strategy']}: {plan['why']}")
    if withheld := data.get("withheld"):
        return "; ".join(f"{one['found']:,} deletions are withheld ({one['guard']})" for one in withheld)
    return say.clean(", ".join(f"{name}: {value}" for name, value in data.items()))
