"""The verbs `maintenance on|off|show`: the read-only mode of the whole service."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from app.cli import say
from app.cli.verb import Call, verbs


def add(group: typer.Typer) -> None:
    """Add these verbs to *group*."""
    verbs(group, {"on": on, "off": off, "show": show})


async def on(
    call: Call, message: Annotated[str | None, typer.Option("--message", "-m", help="Why; told to callers.")] = None
) -> None:
    """Make the service read-only: events are accepted and wait, nothing is applied, no run starts."""
    await _switch(call, {"read_only": True, "message": message})


async def off(call: Call) -> None:
    """End the read-only mode: what waits is applied, runs start."""
    await _switch(call, {"read_only": False})


async def show(call: Call) -> None:
    """Show whether the service is read-only, and why."""
    async with call.api() as api:
        mode = await api.get("/maintenance")
    told(mode)
    say.one(mode, mode, call.form)


async def _switch(call: Call, wanted: Mapping[str, Any]) -> None:
    async with call.api() as api:
        mode = await api.put("/maintenance", wanted)
    told(mode)
    say.one(mode, mode, call.form)


def told(mode: Mapping[str, Any]) -> None:
    """On stderr, while it is read-only."""
    if mode.get("read_only"):
        why = f": {mode['message']}" if mode.get("message") else ""
        say.words(f"The service is read-only{why}. Events wait, no run starts.", "yellow")
