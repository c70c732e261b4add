"""Real catalogues, in the exact shapes that shops write, through a whole run: wherever RESHELVE_DATA points."""

import gzip
import html
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.stack import Stack, ask, stack

FOLDER = os.environ.get("RESHELVE_DATA")
FILES = sorted(Path(FOLDER).glob("*.ndjson.gz")) if FOLDER else []
TAG = re.compile(r"</?(p|br|div|span|ul|li|img|strong|b|i|a)\b[^>]*>", re.IGNORECASE)

pytestmark = [pytest.mark.anyio, pytest.mark.catalogues]


def products(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with gzip.open(path) as lines:
        for line in lines:
            product = orjson.loads(line)
            yield product["_id"], product["_source"]


def source_body(path: Path) -> dict[str, Any]:
    """The shop's own mapping, without what only the shop's plugins and analysers know."""
    found = json.loads((path.parent / path.name.replace(".ndjson.gz", ".mapping.json")).read_text())
    settings = {"number_of_shards": 1, "number_of_replicas": 0, "index.mapping.total_fields.limit": 20_000}
    return {"settings": settings, "mappings": {"dynamic": False, "properties": plain(found["mappings"]["properties"])}}


def plain(properties: dict[str, Any]) -> dict[str, Any]:
    kept = ("type", "properties", "fields", "format", "index", "scaling_factor")
    made = {}
    for name, declared in properties.items():
        field = {key: value for key, value in declared.items() if key in kept}
        if field.get("type") == "scaled_float":
            field = {"type": "double"}
        if "properties" in field:
            field["properties"] = plain(field["properties"])
        if "fields" in field:
            field["fields"] = plain(field["fields"])
        made[name] = field
    return made


def texts(here: Stack) -> Iterator[str]:
    query = {"size": 1000, "_source": ["text"], "sort": ["source_id"]}
    while hits := ask(here.url, "POST", f"/{here.alias}/_search", orjson.dumps(query))["hits"]["hits"]:
        yield from (hit["_source"]["text"] for hit in hits)
        query["search_after"] = hits[-1]["sort"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".ndjson.gz"))
async def test_a_real_catalogue_becomes_clean_and_live(any_engine_url: str, path: Path, tmp_path: Path) -> None:
    async with stack(any_engine_url, tmp_path) as here:
        held = here.shop.fill(products(path), source_body(path))
        await here.declare()
        run = await here.sync()
        assert (run.state, run.error) == ("ready", None)
        assert run.counts["read"] == held
        assert here.count() == held - run.counts["excluded"] - run.counts["rejected"]
        assert run.counts["rejected"] <= held / 100
        seen = 0
        for text in texts(here):
            seen += 1
            assert not TAG.search(text), text
            assert html.unescape(text) == text or "&" in text.replace("&amp;", ""), text
            assert "{{" not in text, text
        assert seen == here.count()
