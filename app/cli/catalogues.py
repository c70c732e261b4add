"""Verbs about catalogues: `catalogues apply|list|show|delete|release|pause|resume|projection`, `generations`,
`rollback`, `search`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml

from app.cli import exits, say
from app.cli.runs import Catalogue, Limit
from app.cli.verb import Call, verbs
from app.cli.wire import Api
from app.errors import Invalid, Problem

Name = Annotated[str, typer.Argument(help="The catalogue.")]


def add(app: typer.Typer, group: typer.Typer) -> None:
    """Add these verbs to *app*, and those of `catalogues` to *group*."""
    verbs(app, {"generations": generations, "rollback": rollback, "search": search})
    verbs(group, {"apply": apply, "list": listed, "show": show, "delete": delete, "release": release})
    verbs(group, {"pause": pause, "resume": resume, "projection": projection})


# --- declare ---------------------------------------------------------------------------------------------------------


async def apply(
    call: Call,
    file: Annotated[str, typer.Option("--file", "-f", help="YAML or JSON; - is stdin.")],
    name: Annotated[str | None, typer.Option(help="The name, where the file holds one catalogue without it.")] = None,
) -> int:
    """Declare or change the catalogues of a file: one, a list of them, or a mapping from names to them."""
    declared = declarations(_read(file), name)
    done, code = [], exits.DONE
    async with call.api() as api:
        for one, spec in declared:
            try:
                done.append(await api.put(f"/catalogues/{one}", spec))
            except Problem as error:
                say.words(f"{one}:")
                say.problem(error)
                code = code or exits.of_problem(error)
    say.items(done, ("name", "source.index", "target.engine", "target.alias", "held"), call.form)
    return code


def _read(file: str) -> Any:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Invalid(f"{file} is not UTF-8.") from error
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" in line {place.line + 1}" if place else ""
        raise Invalid(f"{file} is neither YAML nor JSON{where}.") from error
    return documents[0] if len(documents) == 1 else documents


def declarations(content: Any, name: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """`(name, spec)` of each catalogue. Raises `Invalid` for anything else."""
    if isinstance(content, Mapping) and set(content) == {"catalogues"}:
        content = content["catalogues"]
    if isinstance(content, Mapping) and "target" not in content and "source" not in content:
        content = [{**spec, "name": key} if isinstance(spec, Mapping) else spec for key, spec in content.items()]
    many = content if isinstance(content, list) else [content]
    if not many or (name and len(many) > 1):
        raise Invalid("The file must hold at least one catalogue, and just one together with --name.")
    return [_declaration(one, name) for one in many]


def _declaration(one: Any, name: str | None) -> tuple[str, dict[str, Any]]:
    if not isinstance(one, Mapping):
        raise Invalid("A catalogue is a mapping with `name`, `source` and `target`.")
    known = name or one.get("name")
    if not isinstance(known, str) or not known or "/" in known:
        raise Invalid("A catalogue in the file has no name: add `name`, or say --name.")
    return known, {key: value for key, value in one.items() if key != "name"}


# --- look, forget, release -------------------------------------------------------------------------------------------


async def listed(call: Call, limit: Limit = 100) -> None:
    """List the catalogues."""
    async with call.api() as api:
        found = await api.listed("/catalogues", limit)
    say.items(found, ("name", "tenant", "source.index", "target.engine", "target.alias", "held"), call.form)


async def show(call: Call, name: Name) -> None:
    """Show one catalogue as it was declared, with what is live and what ran last."""
    async with call.api() as api:
        found = await api.get(f"/catalogues/{name}")
    paths = {
        "source": "source.index",
        "engine": "target.engine",
        "alias": "target.alias",
        "embedder": "recipe.embedder.provider",
        "live": "live.index",
        "documents": "live.documents",
        "live since": "live.live_since",
        "held": "held",
        "why": "held_reason",
        "paused": "paused",
        "projection": "projection",
        "events waiting": "lag.pending",
        "oldest, seconds": "lag.oldest_seconds",
        "events failed": "lag.failed",
        "events withheld": "lag.withheld",
        "last run": "last_run.id",
        "its state": "last_run.state",
    }
    say.one(found, {"name": found["name"], **{fact: say.pick(found, path) for fact, path in paths.items()}}, call.form)


async def delete(
    call: Call, name: Name, purge: Annotated[bool, typer.Option("--purge", help="Its indices too.")] = False
) -> None:
    """Forget a catalogue; its indices stay unless --purge is given."""
    async with call.api() as api:
        await api.delete(f"/catalogues/{name}", **({"purge": "true"} if purge else {}))
    say.words(f"{name} is forgotten{'' if purge else '; its indices and its alias stay'}.")


async def release(
    call: Call, name: Name, reason: Annotated[str | None, typer.Option(help="Why; audited.")] = None
) -> None:
    """Let runs start again after a rollback."""
    async with call.api() as api:
        await api.post(f"/catalogues/{name}/release", {"reason": reason} if reason else {})
    say.words(f"{name} is released: runs may start.")


async def pause(call: Call, name: Name) -> None:
    """Apply no events until `resume`; they are accepted and wait, and runs go on."""
    await _patch(call, name, {"paused": True})
    say.words(f"{name} is paused: events are accepted and wait. Runs go on.")


async def resume(call: Call, name: Name) -> None:
    """Apply events again."""
    await _patch(call, name, {"paused": False})
    say.words(f"{name} goes on: what waits is applied.")


async def projection(
    call: Call, name: Name, wanted: Annotated[Literal["on", "off"], typer.Argument(help="off: searches find nothing.")]
) -> None:
    """Switch what the search of this service finds: off, it answers empty and says so."""
    await _patch(call, name, {"projection": wanted})
    answers = "answers" if wanted == "on" else "answers empty; whoever reads the alias itself still reads it"
    say.words(f"The projection of {name} is {wanted}: its search {answers}.")


async def _patch(call: Call, name: str, wanted: Mapping[str, Any]) -> None:
    async with call.api() as api:
        await api.patch(f"/catalogues/{name}", wanted)


# --- generations -----------------------------------------------------------------------------------------------------

GENERATION = ("id", "index", "state", "origin", "documents", "embedder.model", "created_at", "live_since", "retired_at")


async def generations(call: Call, catalogue: Catalogue = None, limit: Limit = 20) -> None:
    """List the generations of a catalogue, newest first."""
    async with call.api() as api:
        name = catalogue or await only(api)
        say.items(await api.listed(f"/catalogues/{name}/generations", limit), GENERATION, call.form)


async def rollback(
    call: Call,
    catalogue: Catalogue = None,
    to: Annotated[str | None, typer.Option(help="A generation's id; by default the one before.")] = None,
    stale: Annotated[bool, typer.Option("--stale", help="Also to one that is no longer kept up to date.")] = False,
) -> None:
    """Put an earlier generation behind the alias again, at once; the catalogue is held afterwards."""
    async with call.api() as api:
        name = catalogue or await only(api)
        moved = await api.post(f"/catalogues/{name}/rollback", {**({"to": to} if to else {}), "stale": stale})
    say.words(f"{name} went back; it is held: reshelve catalogues release {name}, or reshelve sync {name} --release")
    say.one(moved, moved, call.form)


async def only(api: Api) -> str:
    """The name of the one catalogue there is. Raises `Invalid`."""
    found = await api.listed("/catalogues", 2)
    if len(found) != 1:
        there = "there are several" if found else "none is declared yet"
        raise Invalid(f"Name the catalogue: {there}.")
    return str(found[0]["name"])


# --- search ----------------------------------------------------------------------------------------------------------

PAIR = 2


async def search(
    call: Call,
    words: Annotated[list[str], typer.Argument(metavar="[CATALOGUE] QUERY", help="The query, quoted.")],
    mode: Annotated[Literal["vector", "lexical", "hybrid"], typer.Option(help="How.")] = "vector",
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="How many hits.")] = 10,
    where: Annotated[str | None, typer.Option("--filter", help='JSON: {"field": value}.')] = None,
    generation: Annotated[str | None, typer.Option(help="Another generation than the live one.")] = None,
) -> None:
    """Search what is live: the nearest documents, or the best by words."""
    if len(words) > PAIR:
        raise Invalid("Say at most a catalogue and a query; quote a query of several words.")
    body = {"query": words[-1], "mode": mode, "k": k, "filter": _filter(where), "generation": generation}
    async with call.api() as api:
        name = words[0] if len(words) == PAIR else await only(api)
        found = await api.post(f"/catalogues/{name}/search", {key: v for key, v in body.items() if v is not None})
    if found.get("degraded"):
        why = say.pick(found, "degraded_by.detail")
        say.words(f"The answer is degraded{f': {why}' if why else '.'}", "yellow")
    hits(found, call)


def hits(found: Mapping[str, Any], call: Call) -> None:
    """Search hits: JSON as they came, the table with the fields that most catalogues have."""
    if call.form == "json":
        say.one(found, {}, call.form)
    else:
        say.items(found["hits"], ("id", "score", "document.sku", "document.name", "document.price"), call.form)


def _filter(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        raise Invalid('--filter is no JSON: write it like \'{"color": "Black", "price": {"lte": 50}}\'.') from None
