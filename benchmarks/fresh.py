"""A service without any kept vector, warmed by a few other products: what a first sync finds.

Vectors are kept in an index of the benchmark's own, which is dropped before, so that every text must be embedded; the
model is loaded, and the code that runs often is warm, as it is in the scripts that stand beside it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import sources
from benchmarks.service import Service, service

WARM = 500


@contextmanager
def fresh(engine: str, name: str, source: str) -> Iterator[Service]:
    """A running service with the catalogue *name* of the index *source*, never synchronised before."""
    drop(engine, name)
    sources.load(engine, f"{name}-few", *sources.generated(WARM, seed=2))
    try:
        with service(engine, ENGINES__MAIN__VECTORS=f"{name}-vectors") as running:
            running.declare(f"{name}-warm", catalogue(f"{name}-few", f"{name}-warm-live"))
            warm = running.sync(f"{name}-warm")
            assert warm["state"] == "ready", warm
            running.declare(name, catalogue(source, f"{name}-live"))
            yield running
    finally:
        drop(engine, name)


def drop(engine: str, name: str) -> None:
    """Remove the generations and the vectors; the source stays."""
    sources.drop(engine, f"{name}-20", f"{name}-few", f"{name}-warm", f"{name}-vectors")


def catalogue(source: str, alias: str) -> dict[str, Any]:
    """What the service is told to keep in step: the text and the fields that the others take."""
    return {
        "source": {"index": source},
        "target": {"alias": alias, "replicas": 0},
        "recipe": sources.RECIPE,
        "policy": {"keep": 1, "settle_seconds": 0, "max_reject_percent": 10},
    }
