"""The way by docker, for a machine whose `docker info` answers and that has no Maven."""

import shutil
import subprocess

from engines import shell
from engines.plans import Instance
from engines.products import Product
from engines.search import HEAPS
from engines.trouble import Trouble, say

INSIDE = {"elasticsearch": 9200, "opensearch": 9200, "postgres": 5432}
ENVIRONMENT = {
    "elasticsearch": ("discovery.type=single-node", "xpack.security.enabled=false", "action.auto_create_index=false"),
    "opensearch": (
        "discovery.type=single-node",
        "DISABLE_SECURITY_PLUGIN=true",
        "DISABLE_INSTALL_DEMO_CONFIG=true",
        "action.auto_create_index=false",
    ),
    "postgres": ("POSTGRES_USER=reshelve", "POSTGRES_HOST_AUTH_METHOD=trust"),
}
THRESHOLD = "cluster.routing.allocation.disk.threshold_enabled=false"


def works() -> bool:
    """A docker engine answers."""
    return shutil.which("docker") is not None and _docker("info").returncode == 0


def command(product: Product, instance: Instance) -> list[str]:
    """The arguments of docker that start this instance."""
    port = f"127.0.0.1:{instance.port}:{INSIDE[product.kind]}"
    options = ["run", "--detach", "--name", container(product, instance), "--publish", port]
    values = [*ENVIRONMENT[product.kind]]
    if product.kind != "postgres":
        heap = HEAPS[product.kind][1]
        prefix = "ES" if product.kind == "elasticsearch" else "OPENSEARCH"
        values += [THRESHOLD, f"{prefix}_JAVA_OPTS=-Xms{heap} -Xmx{heap}"]
        values += [f"{key}={value}" for key, value in instance.config.items()]
    for value in values:
        options += ["--env", value]
    further = [f"-c{key}={value}" for key, value in instance.config.items()] if product.kind == "postgres" else []
    return [*options, product.image, *further]


def container(product: Product, instance: Instance) -> str:
    """What the container is called."""
    return f"reshelve-{product.name}-{instance.port}"


def start(product: Product, instance: Instance) -> str:
    """Start the container, also one that is there and stopped; its name."""
    name = container(product, instance)
    if is_there(name):
        done = _docker("start", name)
    else:
        say(f"starting the image {product.image}")
        done = _docker(*command(product, instance))
    if done.returncode:
        why = shell.reason(done)
        raise Trouble(f"docker could not start {product.image} ({why}): see whether it can be pulled on this machine.")
    return name


def pull(product: Product) -> None:
    """Fetch the image."""
    say(f"fetching the image {product.image}")
    done = _docker("pull", "--quiet", product.image)
    if done.returncode:
        raise Trouble(
            f"docker could not fetch {product.image} ({shell.reason(done)}): look at the network and try again."
        )


def is_there(name: str) -> bool:
    """There is such a container, running or not."""
    return _docker("container", "inspect", name).returncode == 0


def is_running(name: str) -> bool:
    """The container runs."""
    return _docker("container", "inspect", "--format", "{{.State.Running}}", name).stdout.strip() == "true"


def stop(name: str) -> None:
    """Stop the container; its data stay."""
    _docker("stop", name)


def remove(name: str) -> None:
    """Remove the container and its data."""
    _docker("rm", "--force", "--volumes", name)


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return shell.run(["docker", *arguments])
