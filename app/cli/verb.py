"""How a verb is made: an async function of a `Call` and its own options gets the options that every verb has.

The exit code is what the function returns, or what the error it raised stands for. An interrupt ends it with 130.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial, wraps
from typing import Annotated, Any

import anyio
import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from app.cli import exits, say
from app.cli.say import Format
from app.cli.wire import Api, connected
from app.errors import Invalid, Problem

Url = Annotated[str | None, typer.Option("--url", envvar="RESHELVE_URL", help="The service, and no other.")]
Token = Annotated[str | None, typer.Option("--token", envvar="RESHELVE_TOKEN", help="A caller's token.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="How data is printed on stdout.")]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a verb: whom it speaks to and how it prints."""

    url: str | None
    token: str | None
    form: Format

    def api(self) -> AbstractAsyncContextManager[Api]:
        """The API, open for the block."""
        return connected(self.url, self.token)


Verb = Callable[..., Awaitable[int | None]]


def verbs(app: typer.Typer, made: Mapping[str, Verb]) -> None:
    """Make each function, whose first parameter is the `Call`, the verb of its name in *app*."""
    for name, verb in made.items():
        _speaks(app, name, verb)


def _speaks(app: typer.Typer, name: str, verb: Verb) -> None:
    @wraps(verb)
    def command(url: str | None, token: str | None, output: Format, **own: Any) -> None:
        ended(lambda: anyio.run(partial(verb, Call(url, token, output), **own)))

    own = list(inspect.signature(verb, eval_str=True).parameters.values())[1:]
    _sign(command, [*own, *_SHARED])
    app.command(name)(command)


def local(app: typer.Typer, name: str, verb: Callable[..., int | None]) -> None:
    """Make *verb* the verb *name* of *app*; it speaks to no service."""

    @wraps(verb)
    def command(**own: Any) -> None:
        ended(partial(verb, **own))

    _sign(command, list(inspect.signature(verb, eval_str=True).parameters.values()))
    app.command(name)(command)


def ended(act: Callable[[], int | None]) -> None:
    """Do *act* and exit with its code; an error is told in plain words, never as a stack."""
    try:
        code = act() or exits.DONE
    except Problem as error:
        say.problem(error)
        code = exits.of_problem(error)
    except (ValidationError, SettingsError) as error:
        refused = settings_refused(error) if isinstance(error, ValidationError) else settings_unread(error)
        say.problem(refused)
        code = exits.of_problem(refused)
    raise typer.Exit(code)


def settings_refused(error: ValidationError) -> Invalid:
    """What is wrong with the settings, by the names of their variables and without their values."""
    findings = error.errors(include_input=False, include_url=False)
    found = [{"where": _variable(one["loc"]), "why": one["msg"].removeprefix("Value error, ")} for one in findings]
    return Invalid("The settings cannot be used: correct these variables.", errors=found)


def settings_unread(error: SettingsError) -> Invalid:
    """What is wrong with settings before they are looked at one by one: a text that is no JSON, a folder not there."""
    if named := re.search(r'value for field "(\w+)"', str(error)):
        start = f"RESHELVE_{named[1].upper()}"
        return Invalid(f"The settings cannot be used: a list or mapping in {start} (or {start}__...) is no valid JSON.")
    return Invalid(f"RESHELVE_SECRETS_DIR cannot be used: {error}.")


def _variable(location: Sequence[Any]) -> str:
    name = "__".join(str(part) for part in location).upper()
    return name if name.startswith("OPENAI_") else f"RESHELVE_{name}"


def _sign(command: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> None:
    """Give a wrapper the parameters that typer is to read."""
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    command.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in keywords}


def _shared(url: Url = None, token: Token = None, output: Output = "table") -> None:
    """The options that every verb has."""


_SHARED = list(inspect.signature(_shared).parameters.values())
