"""Bounds that are promised: memory while many products are synced, and how long `/healthz` waits meanwhile.

    python -m benchmarks.bounds --engine URL [--products 100000]

Idle is the size of the service with the embedder loaded, after a small run. A large run may take 150 MiB more. What a
further product takes is told by a run of twice the size, after the large one was run three times: a heap that is new
grows with each run until it levels off, whatever the size. `/healthz` answers within 100 ms in 99 of 100 cases.
"""

import argparse
import json
import sys
from typing import Any

from app.demo.catalogue import mapping, products
from benchmarks import sources
from benchmarks.service import Service, service

MIB = 2**20


def main() -> None:
    """Run and print one JSON document; exit 1 when a promise is broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", required=True)
    parser.add_argument("--products", type=int, default=100_000)
    asked = parser.parse_args()
    size = asked.products
    sizes = (2_000, size, size, size, 2 * size)
    with service(asked.engine) as running:
        small, *large, double = [measured(running, asked.engine, size) for size in sizes]
    idle, peak = small["rss_after_mib"], max(run["rss_peak_mib"] for run in large)
    growth = (double["rss_peak_mib"] - peak) * MIB / size
    health = max(run["health_p99_ms"] for run in (*large, double))
    result = {
        "runs": [small, *large, double],
        "idle_mib": idle,
        "over_idle_mib": round(peak - idle, 1),
        "bytes_a_product_beyond": round(growth, 1),
        "health_p99_ms": health,
    }
    print(json.dumps(result, indent=2))
    kept = result["over_idle_mib"] <= 150 and growth < 64 and health < 100
    sys.exit(0 if kept else 1)


def measured(running: Service, engine: str, count: int) -> dict[str, Any]:
    """One full run over *count* generated products."""
    name = f"bench-{count}"
    sources.load(engine, name, products(count), mapping()["mappings"]["properties"])
    running.declare(name, {"source": {"index": name}, "target": {"alias": f"{name}-live", "replicas": 0}})
    with running.watched() as seen:
        run = running.sync(name)
    if run["state"] != "ready":
        raise SystemExit(json.dumps(run["error"]))
    return {
        "products": run["counts"]["read"],
        "seconds": round(sum(stage["seconds"] for stage in run["stages"]), 1),
        "rss_peak_mib": round(seen.peak_mib, 1),
        "rss_after_mib": round(seen.rss[-1] / MIB, 1),
        "health_p50_ms": round(seen.health_ms(0.5), 1),
        "health_p99_ms": round(seen.health_ms(0.99), 1),
        "health_max_ms": round(max(seen.health) * 1000, 1),
        "probes": len(seen.health),
    }


if __name__ == "__main__":
    main()
