"""What can be started: names, versions, where each comes from and what it needs."""

from dataclasses import dataclass
from typing import Literal

from engines.trouble import Trouble

Kind = Literal["elasticsearch", "opensearch", "postgres"]
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Product:
    """One server; *artifact* is a Maven coordinate `group:name:version:type`, *knn* that of the vector plugin.

    *javas* are the Java majors it runs on, best first; *space* is what fetching and unpacking takes, in bytes.
    """

    name: str
    kind: Kind
    version: str
    port: int
    artifact: str
    image: str
    space: int
    javas: tuple[int, ...] = ()
    knn: str = ""


def _elasticsearch(version: str, port: int, javas: tuple[int, ...]) -> Product:
    return Product(
        name=f"elasticsearch-{version.split('.')[0]}",
        kind="elasticsearch",
        version=version,
        port=port,
        artifact=f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{version}:zip",
        image=f"elasticsearch:{version}",
        space=600 * MEGABYTE,
        javas=javas,
    )


def _opensearch(version: str, port: int, javas: tuple[int, ...]) -> Product:
    return Product(
        name=f"opensearch-{version.split('.')[0]}",
        kind="opensearch",
        version=version,
        port=port,
        artifact=f"org.opensearch.distribution.integ-test-zip:opensearch:{version}:zip",
        image=f"opensearchproject/opensearch:{version}",
        space=800 * MEGABYTE,
        javas=javas,
        knn=f"org.opensearch.plugin:opensearch-knn:{version}.0:zip",
    )


_POSTGRES = Product(
    name="postgres",
    kind="postgres",
    version="17.5",
    port=27432,
    artifact="io.zonky.test.postgres:embedded-postgres-binaries-linux-{machine}:17.5.0:jar",
    image="postgres:17",
    space=150 * MEGABYTE,
)

# Java beyond 25 is untried with all of these; OpenSearch 2 needs a security manager, which ended with 24.
PRODUCTS = {
    product.name: product
    for product in (
        _elasticsearch("9.5.3", 27209, (25, 24, 23, 22, 21)),
        _elasticsearch("8.19.21", 27208, (25, 24, 23, 22, 21, 20, 19, 18, 17)),
        _opensearch("3.5.0", 27203, (25, 24, 23, 22, 21)),
        _opensearch("2.19.1", 27202, (17, 21, 20, 19, 18, 16, 15, 14, 13, 12, 11)),
        _POSTGRES,
    )
}


def product(name: str) -> Product:
    """The product called *name*."""
    if name not in PRODUCTS:
        raise Trouble(f"There is no server called '{name}'; there are {', '.join(PRODUCTS)}.")
    return PRODUCTS[name]
