"""Verbs of the contract that are not built yet: each says so and exits with 2."""

from typing import Annotated

import typer

from app.cli.verb import ended
from app.errors import NotSupportedYet

VERBS = ("work", "audit", "token")

LENIENT = {"ignore_unknown_options": True, "allow_extra_args": True}

Anything = Annotated[list[str] | None, typer.Argument(hidden=True)]


def add(app: typer.Typer) -> None:
    """Add these verbs to *app*."""
    for verb in VERBS:
        _add(app, verb)


def _add(app: typer.Typer, verb: str) -> None:
    def refuse(_arguments: Anything = None) -> None:
        ended(lambda: _refuse(verb))

    app.command(verb, help="Not built yet.", context_settings=LENIENT)(refuse)


def _refuse(verb: str) -> None:
    raise NotSupportedYet(f"`reshelve {verb}` is not built yet.")
