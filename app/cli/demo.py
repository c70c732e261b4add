"""The verb `demo`: from nothing to answers, with everything real, and left running to be looked at."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from app.cli import exits, say
from app.cli.catalogues import GENERATION
from app.cli.follow import follow
from app.cli.runs import active_of, shown
from app.cli.verb import Call, local
from app.cli.wire import Api, connected
from app.demo import flow
from app.demo.flow import FOLDER, Kind, Stand, clean, require_own_port, stand
from app.demo.load import ALIAS
from app.errors import Conflict

CATALOGUE = "demo"

TARGET = "rag-catalog-live"

DECLARED = {
    "source": {"kind": "index", "engine": "main", "index": ALIAS},
    "target": {"engine": "main", "alias": TARGET, "replicas": 0},
}

QUERIES = (
    "something warm for my head on frosty mornings",
    "a present for somebody who loves tea",
    "a bag to carry my laptop through the rain",
)

HITS = 3

DEFAULT_PORT = 8000


def add(app: typer.Typer) -> None:
    """Add the verb to *app*."""
    local(app, "demo", demo)


def demo(
    engine: Annotated[Kind, typer.Option(help="Which engine.")] = "elasticsearch",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The service's port.")] = DEFAULT_PORT,
    remove: Annotated[bool, typer.Option("--clean", help="Stop and remove all that the demo made.")] = False,
    folder: Annotated[Path, typer.Option(help="Where it keeps its files.", show_default=False)] = FOLDER,
) -> int:
    """Start an engine with a shop's index and a service, sync, search, and leave it up."""
    if remove:
        anyio.run(clean, say.words, folder.absolute())
        say.words("Nothing of the demo is left.", "green")
        return exits.DONE
    began = time.monotonic()
    require_own_port(port, folder.absolute())
    server = flow.engine(engine)
    say.words(f"{engine} answers at {server}")
    code = anyio.run(_tour, engine, port, server, folder.absolute())
    say.words(f"done in {time.monotonic() - began:.0f} s", "dim")
    return code


async def _tour(kind: Kind, port: int, server: str, folder: Path) -> int:
    standing = await stand(kind, port, server, say.words, folder)
    call = Call(standing.service.url, None, "table")
    async with connected(call.url, None) as api:
        catalogue = await api.put(f"/catalogues/{CATALOGUE}", DECLARED)
        if run := await _synced(api, catalogue, standing):
            shown(run, call)
            if run["state"] != "ready":
                return exits.of_run(run)
        await _show(api)
    _farewell(standing)
    return exits.DONE


async def _synced(api: Api, catalogue: Mapping[str, Any], standing: Stand) -> Mapping[str, Any] | None:
    """The run that made the alias up to date; None when it is already, or held after a rollback.

    A run that is active already is seen through first: it may be one that an interrupted demo left behind.
    """
    if catalogue["held"]:
        say.words(f"{CATALOGUE} is held after a rollback: reshelve catalogues release {CATALOGUE}", "yellow")
        return None
    if catalogue["live"] and not standing.source.fresh:
        return None
    try:
        run = await api.post("/sync", {"catalogue": CATALOGUE, "strategy": "full", "reason": "demo"})
    except Conflict as conflict:
        if (active := active_of(conflict)) is None:
            raise
        left = await follow(api, active)
        return left if left["state"] == "ready" else await _synced(api, catalogue, standing)
    say.words(f"run {run['id']}")
    return await follow(api, run["id"])


async def _show(api: Api) -> None:
    """The alias with its generations, and what three queries find."""
    found = await api.listed(f"/catalogues/{CATALOGUE}/generations", 5)
    say.words(f"{TARGET} and its generations:", "bold")
    say.items(found, GENERATION, "table")
    for query in QUERIES:
        answer = await api.post(f"/catalogues/{CATALOGUE}/search", {"query": query, "mode": "vector", "k": HITS})
        say.words(f"“{query}”", "bold")
        say.items(answer["hits"], ("score", "id", "document.name", "document.price"), "table")


def _farewell(standing: Stand) -> None:
    service = standing.service
    where = "" if service.port == DEFAULT_PORT else f" --url {service.url}"
    say.words(f"The page is at {service.url}/ and stays up, with {standing.engine} behind it.", "green")
    say.words(f'Try: reshelve search "boots for rocky paths"{where}; reshelve status{where}; reshelve demo --clean')
