"""What the demo stands on, in this order: a real engine, the shop's index in it, a service beside it.

Each is found and reused, or started. Whatever was interrupted begins again at its own step, because each step looks
for itself: the engine answers or not, the index carries its alias or not, the service lives or not. All that is
written lies in one folder (and the engine's data where its launcher keeps them); `clean` removes both.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from app.demo import background
from app.demo.background import ROOT, Service
from app.demo.catalogue import mapping, products
from app.demo.load import Loaded, load
from app.errors import Problem
from app.listening import require_port

FOLDER = ROOT / ".demo"

PRODUCTS = 2_000

LAST_PORT = 65_535

Kind = Literal["elasticsearch", "opensearch"]

SERVERS: dict[Kind, tuple[str, int]] = {
    "elasticsearch": ("elasticsearch-9", 27309),
    "opensearch": ("opensearch-3", 27303),
}
"""Which server of the launcher, and the port that is the demo's own, so that no test meets it."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stand:
    """What the demo stands on now."""

    engine: str
    source: Loaded
    service: Service


async def stand(kind: Kind, port: int, engine: str, say: Say, folder: Path = FOLDER) -> Stand:
    """Source and service before the *engine* that runs. Raises `Problem` with one sentence that says what to do."""
    source = await load(engine, products(PRODUCTS), mapping("magento", kind), f"magento-{PRODUCTS}-1")
    say(f"the shop's index {source.index} holds {source.documents:,} products{'' if source.fresh else ' already'}")
    return Stand(engine, source, await _service(folder, kind, port, engine, say))


async def clean(say: Say, folder: Path = FOLDER) -> None:
    """Stop what the demo started and remove all that it wrote."""
    for kind in SERVERS:
        if await background.stop(folder / kind):
            say("stopped the service")
    for name, port in SERVERS.values():
        if _launcher("wipe")(name, port):
            say(f"removed {name}")
    shutil.rmtree(folder, ignore_errors=True)


# --- engine ----------------------------------------------------------------------------------------------------------


def engine(kind: Kind) -> str:
    """The engine's address, started unless it runs. It blocks: an interrupt must end the launcher at once."""
    name, port = SERVERS[kind]
    return str(_launcher("launch")(name, port=port).url)


def _launcher(verb: str) -> Callable[..., Any]:
    """A verb of the project's launcher, whose troubles are told as ours. It is not part of an installed package."""
    try:
        import engines
    except ImportError:
        raise Problem("The demo starts real servers with the project's launcher: run it in a checkout.") from None

    def act(*args: Any, **options: Any) -> Any:
        try:
            return getattr(engines, verb)(*args, **options)
        except engines.Trouble as trouble:
            raise Problem(str(trouble), code="engine_start") from trouble

    return act


# --- service ---------------------------------------------------------------------------------------------------------


def require_own_port(port: int, folder: Path = FOLDER) -> None:
    """Raise `Conflict` before anything is started, when somebody else listens on *port*."""
    ours = {service.port for service in (background.found(folder / kind) for kind in SERVERS) if service}
    if port not in ours:
        another = port + 1 if port < LAST_PORT else port - 1
        require_port("127.0.0.1", port, f"choose another: make demo PORT={another}, or reshelve demo --port {another}")


async def _service(folder: Path, kind: Kind, port: int, engine: str, say: Say) -> Service:
    """The service on *port*: the one that runs, if it is the same; else a new one in the place of any other of ours."""
    own = folder / kind
    settings = {
        "RESHELVE_DATABASE_URL": f"sqlite+aiosqlite:///{own / 'reshelve.db'}",
        "RESHELVE_ENGINES__MAIN__URL": engine,
        "RESHELVE_OFFLINE": "true",
    }
    there = background.found(own)
    wanted = (port, settings, background.code())
    if there and (there.port, there.settings, there.code) == wanted and await background.answers(there):
        say(f"the service answers at {there.url} already")
        return there
    for other in SERVERS:
        await background.stop(folder / other)
    own.mkdir(parents=True, exist_ok=True)
    say(f"starting the service on port {port} (log: {own / background.LOG})")
    return await background.start(own, port, settings)
