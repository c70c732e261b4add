"""Start, find, stop and wipe servers; the order of steps is told in the package's own words (`engines/__init__.py`)."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from engines import cache, docker, homes, java, machine, maven, postgres, products, records, search
from engines.machine import Account, account, alive, belongs, end, wait
from engines.plans import Instance, Plan
from engines.products import Product
from engines.records import Server
from engines.trouble import Trouble, say


def launch(
    name: str,
    *,
    port: int | None = None,
    data: Path | None = None,
    config: Mapping[str, str] | None = None,
    owner: int | None = None,
    temporary: bool = False,
) -> Server:
    """The server *name* on *port* (its usual one), started unless it runs; raises `Trouble`.

    *data* is the folder of this instance, by default one in the cache; *config* are further settings of the server;
    *owner* is the process that it must not outlive for long; *temporary* lets it end with the last who shares it.
    """
    product = products.product(name)
    port = port or product.port
    folder = (data or cache.root() / "instances" / f"{name}-{port}").absolute()
    instance = Instance(folder, port, dict(config or {}))
    with cache.lock(f"server-{name}-{port}"):
        return _running(product, instance) or _start(product, instance, owner, temporary)


def fetch(name: str) -> None:
    """Bring everything that a later `launch(name)` needs onto this machine."""
    product = products.product(name)
    machine.machine()
    if _docker_is_the_way(product):
        docker.pull(product)
    elif product.kind == "postgres":
        postgres.binaries(product)
    else:
        java.find(name, product.javas, account())
        homes.home(product)


@contextmanager
def shared(name: str, *, keep: bool = False) -> Iterator[Server]:
    """The server *name* on its usual port, shared by all who ask like this at the same time.

    If none was running, it is stopped and wiped when the last of them leaves, unless *keep*.
    """
    with cache.shared_lock(f"users-{name}") as last:
        server = launch(name, temporary=True)
        try:
            yield server
        finally:
            known = records.read(name, server.port)
            if known and known.temporary and not keep and last():
                wipe(name, server.port)


@contextmanager
def private(name: str, config: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server of its own, with further settings, on a free port; stopped and wiped on the way out."""
    sweep()
    with cache.lock("private-port"):
        port = machine.free_port()
        server = launch(name, port=port, config=config, owner=os.getpid())
    try:
        yield server
    finally:
        wipe(name, port)


def stop(name: str, port: int | None = None) -> list[Server]:
    """Stop the recorded servers of that name (and port); their data stay. Those that were running."""
    return [server for server in records.all_of(name, port) if _halt(server)]


def wipe(name: str, port: int | None = None) -> list[Server]:
    """Stop them and remove their data and records. Those that there were."""
    servers = records.all_of(name, port)
    for server in servers:
        with cache.lock(f"server-{server.key}"):
            _halt(server)
            if server.container:
                docker.remove(server.container)
            records.forget(server)
    return servers


def sweep() -> None:
    """Wipe private servers whose owner has gone without doing so."""
    for server in records.all_of():
        if server.owner and not alive(server.owner):
            wipe(server.name, server.port)


def status() -> list[tuple[Server, str]]:
    """Every recorded server and how it is: healthy, starting or stopped."""
    return [(server, _state(server)) for server in records.all_of()]


# --- what runs already -----------------------------------------------------------------------------------------------


def _running(product: Product, instance: Instance) -> Server | None:
    """The server that answers on this port, if it is the wanted one."""
    known = records.read(product.name, instance.port)
    found = _version_at(product, instance.port)
    if known and found and _is_up(known):
        if known.config != instance.config:
            raise Trouble(
                f"{product.name} runs on port {instance.port} with other settings: "
                f"stop it first (python -m engines stop {product.name} --port {instance.port})."
            )
        return known
    if found and _matches(product, found):
        return Server(product.name, found, _url(product, instance.port), instance.port)
    if known and _is_up(known):
        say(f"{known.name} on port {known.port} runs without being healthy, starting it again")
        _halt(known)
    machine.require_port(instance.port)
    return None


def _matches(product: Product, found: str) -> bool:
    """Any Postgres that lets us in will do; an engine must be the very version."""
    return product.kind == "postgres" or found == product.version


def _version_at(product: Product, port: int) -> str | None:
    if machine.is_free(port):
        return None
    return postgres.version_at(port) if product.kind == "postgres" else search.version_at(f"http://127.0.0.1:{port}")


def _url(product: Product, port: int) -> str:
    if product.kind == "postgres":
        return f"postgresql://{postgres.USER}@127.0.0.1:{port}/postgres"
    return f"http://127.0.0.1:{port}"


def _is_up(server: Server) -> bool:
    if server.container:
        return docker.is_running(server.container)
    return belongs(server.pid, Path(server.folder))


def _state(server: Server) -> str:
    if not _is_up(server):
        return "stopped"
    return "healthy" if _version_at(products.product(server.name), server.port) else "starting"


def _halt(server: Server) -> bool:
    """Stop it; whether it was running. Its process is ended only while its command line names its folder."""
    if not _is_up(server):
        return False
    if server.container:
        docker.stop(server.container)
    elif server.pid:
        end(server.pid, _polite(server))
    return True


def _polite(server: Server) -> signal.Signals:
    return signal.SIGINT if server.name == "postgres" else signal.SIGTERM


# --- starting --------------------------------------------------------------------------------------------------------


def _start(product: Product, instance: Instance, owner: int | None, temporary: bool) -> Server:
    if product.kind != "postgres":
        machine.require_port(machine.transport(instance.port))
    record = Server(
        product.name,
        product.version,
        _url(product, instance.port),
        instance.port,
        log=str(instance.log),
        folder=str(instance.folder),
        config=instance.config,
        owner=owner,
        temporary=temporary,
    )
    start = _by_docker if _docker_is_the_way(product) else _by_process
    return start(product, instance, record)


def _docker_is_the_way(product: Product) -> bool:
    """Maven fetches, docker is the way out where there is no Maven; neither is a trouble."""
    if maven.found() or homes.is_there(product) or (product.kind == "postgres" and postgres.installed()):
        return False
    if docker.works():
        return True
    raise Trouble(
        f"{product.name} is fetched with Maven or docker and this machine has neither: "
        "install Maven (Debian: apt-get install maven) or a docker engine whose `docker info` answers."
    )


def _by_docker(product: Product, instance: Instance, record: Server) -> Server:
    server = replace(record, container=docker.container(product, instance), folder="", log="")
    docker.start(product, instance)
    records.write(server)
    found = _await(product, instance, lambda: docker.is_running(server.container or ""))
    return replace(server, version=found, started=True)


def _by_process(product: Product, instance: Instance, record: Server) -> Server:
    machine.machine()
    who = _prepare(instance)
    plan = (postgres if product.kind == "postgres" else search).plan(product, instance, who)
    who.own(instance.folder)
    plan.pid_file.unlink(missing_ok=True)
    say(f"starting {product.name} on port {instance.port}")
    starter = _spawn(plan, instance, who)
    records.write(replace(record, pid=starter))
    try:
        found = _await(product, instance, lambda: alive(starter) or alive(_pid(plan)))
    except BaseException:
        _halt(replace(record, pid=_pid(plan) or starter))
        raise
    server = replace(record, pid=_pid(plan) or starter, version=found, started=True)
    records.write(server)
    return server


def _prepare(instance: Instance) -> Account:
    """The instance's folder and the user who will run it, who must be able to reach it."""
    who = account()
    machine.require_space(instance.folder, 0)
    try:
        instance.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Trouble(f"The folder {instance.folder} cannot be made ({error.strerror}): name another one.") from None
    who.own(instance.folder)
    if not who.reaches(instance.folder):
        raise Trouble(
            f"The user that runs servers cannot reach {instance.folder}: name a folder that everybody may enter, "
            "with RESHELVE_CACHE or --data."
        )
    return who


def _spawn(plan: Plan, instance: Instance, who: Account) -> int:
    """Start it in a session of its own, without any pipe to us, and leave it to the system; its process number.

    The shell in between ends at once, so nobody has to wait for the server as for a child.
    """
    detached = 'log=$1; shift; "$@" >>"$log" 2>&1 </dev/null & echo $!'
    shell = ["sh", "-c", detached, "sh", str(instance.log), *plan.command]
    groups: list[int] | None = None if who.uid is None else []
    done = subprocess.run(
        shell,
        env=_clean_environment() | dict(plan.environment),
        cwd=instance.folder,
        user=who.uid,
        group=who.gid,
        extra_groups=groups,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(done.stdout)


def _clean_environment() -> dict[str, str]:
    """Ours without what would change a server behind our back."""
    unwanted = ("JAVA_TOOL_OPTIONS", "JAVA_OPTS", "JAVA_HOME", "ES_", "OPENSEARCH_", "PG")
    return {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}


def _pid(plan: Plan) -> int | None:
    try:
        return int(plan.pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _await(product: Product, instance: Instance, lives: Callable[[], bool]) -> str:
    """Wait until the server is healthy; its version."""
    patience = float(os.environ.get("RESHELVE_ENGINE_WAIT", "180"))
    found: list[str] = []

    def settled() -> bool:
        version = _version_at(product, instance.port)
        found.extend([version] if version else [])
        return bool(version) or not lives()

    in_time = wait(settled, patience, every=0.25)
    if found:
        return found[0]
    if in_time:
        raise Trouble(f"{product.name} ended while starting ({search.why_it_died(instance)}): see {instance.log}.")
    raise Trouble(
        f"{product.name} was not healthy after {patience:.0f} seconds: "
        f"see {instance.log}, or allow more with RESHELVE_ENGINE_WAIT."
    )
