"""The command `reshelve` and its verbs."""

import sys
from collections.abc import Sequence

import typer

from app.cli import catalogues, demo, doctor, events, later, looking, maintenance, plan, runs, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code. *arguments* are those of the process by default."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _app()(args=verb_first(given), prog_name="reshelve")
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 0
    return 0


def verb_first(arguments: list[str]) -> list[str]:
    """The options that every verb takes may also stand before it."""
    leading = 0
    while leading + 1 < len(arguments) and arguments[leading] in ("--url", "--token", "--output", "-o"):
        leading += 2
    return arguments[leading:] + arguments[:leading]


def _app() -> typer.Typer:
    app = _group("Keeps a shop's retrieval index in step with its catalogue.")
    groups = {
        "catalogues": _group("What is kept in step."),
        "runs": _group("Attempts to bring an alias up to date."),
        "events": _group("Notices that a product changed."),
        "maintenance": _group("The read-only mode of the whole service."),
        "db": _group("The database."),
    }
    demo.add(app)
    serve.add(app, groups["db"])
    doctor.add(app)
    plan.add(app)
    runs.add(app, groups["runs"])
    catalogues.add(app, groups["catalogues"])
    events.add(groups["events"])
    maintenance.add(groups["maintenance"])
    looking.add(app)
    later.add(app)
    for name, group in groups.items():
        app.add_typer(group, name=name)
    return app


def _group(text: str) -> typer.Typer:
    return typer.Typer(help=text, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
