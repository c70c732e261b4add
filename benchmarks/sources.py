"""Source indices for benchmarks: a catalogue file in the shape Magento writes, or generated products."""

import gzip
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import orjson

from app.demo.catalogue import mapping, products

Product = tuple[str, dict[str, Any]]

CATALOGUE = "icecat_chorus.magento"
"""The real catalogue."""

FIELDS = {"sku": "keyword", "name": "text", "price": {"from": "price_0_1", "type": "double"}}
RECIPE = {"template": "{{ name }}\n{{ description }}", "fields": FIELDS}
"""The text and the fields that every contestant takes from a product."""


def from_file(path: Path) -> Iterator[Product]:
    """The products of an `.ndjson.gz` file."""
    with gzip.open(path) as lines:
        for line in lines:
            product = orjson.loads(line)
            yield product["_id"], product["_source"]


def load(url: str, index: str, given: Iterable[Product], properties: dict[str, Any], chunk: int = 1000) -> int:
    """Make *index* anew and fill it; how many products it holds."""
    with httpx.Client(base_url=url, timeout=120) as client:
        client.delete(f"/{index}", params={"ignore_unavailable": "true"})
        settings = {"number_of_shards": 1, "number_of_replicas": 0, "index.mapping.total_fields.limit": 20_000}
        body = {"settings": settings, "mappings": {"dynamic": False, "properties": properties}}
        client.put(f"/{index}", json=body).raise_for_status()
        _write(client, index, given, chunk)
        return int(client.get(f"/{index}/_count").json()["count"])


def generated(count: int, seed: int = 1) -> tuple[Iterator[Product], dict[str, Any]]:
    """Products of the demonstration's shop, and the types of their fields."""
    return products(count, seed), mapping()["mappings"]["properties"]


def real(data: Path) -> tuple[Iterator[Product], dict[str, Any]]:
    """The products of the real catalogue below *data*, and the types of their fields."""
    return from_file(data / f"{CATALOGUE}.ndjson.gz"), plain_properties(data / f"{CATALOGUE}.mapping.json")


def drop(url: str, *starts: str) -> None:
    """Remove the indices whose names start so."""
    with httpx.Client(base_url=url, timeout=120) as client:
        for row in client.get("/_cat/indices", params={"format": "json", "h": "index"}).json():
            if row["index"].startswith(starts):
                client.delete(f"/{row['index']}").raise_for_status()


def change(url: str, index: str, given: Iterable[Product], chunk: int = 1000) -> None:
    """Write products over those that *index* holds."""
    with httpx.Client(base_url=url, timeout=120) as client:
        _write(client, index, given, chunk)


def _write(client: httpx.Client, index: str, given: Iterable[Product], chunk: int) -> None:
    stream = iter(given)
    while batch := list(islice(stream, chunk)):
        lines = [
            line for key, source in batch for line in (orjson.dumps({"index": {"_id": key}}), orjson.dumps(source))
        ]
        answer = client.post(
            f"/{index}/_bulk", content=b"\n".join(lines) + b"\n", headers={"Content-Type": "application/x-ndjson"}
        )
        answer.raise_for_status()
    client.post(f"/{index}/_refresh")


def plain_properties(path: Path) -> dict[str, Any]:
    """The field types of a `.mapping.json` file, without analysers that a small engine lacks."""
    found = json.loads(path.read_text())
    while "properties" not in found:
        found = found.get("mappings") or next(value for value in found.values() if isinstance(value, dict))
    return {
        name: {"type": one["type"]}
        for name, one in found["properties"].items()
        if one.get("type") in ("text", "keyword", "integer", "double", "boolean")
    }
