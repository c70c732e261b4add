"""What an index of ours looks like: mapping, settings for loading, and its mark; and an index as engines list it.

Every field is declared (`dynamic: false` leaves anything else unindexed in `_source`). A keyword longer than Lucene's
largest term stays in `_source` and is not indexed, instead of making the engine refuse the document. Hashes are only
read back, never searched: they keep doc values and no index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from app.sync.words import IndexInfo, Mark, Shape

VECTOR = "embedding"

LONGEST_TERM = 8191
"""Characters: Lucene takes terms of 32,766 bytes, and a character has at most four."""

HASH = {"type": "keyword", "index": False}

OWN: Mapping[str, Mapping[str, Any]] = {
    "text_hash": HASH,
    "content_hash": HASH,
    "input_hash": HASH,
    "embed_model_alias": {"type": "keyword"},
    "embed_model_version": {"type": "keyword"},
    "source_id": {"type": "keyword"},
    "tenant": {"type": "keyword"},
    "lang": {"type": "keyword"},
    "updated_at": {"type": "date"},
}
"""Fields that every document of ours carries, besides `text` and the vector."""

PROTECTED = {"index.gc_deletes": "1h"}
"""What a declared setting cannot change: tombstones must outlive the writes that could come late."""


def mappings(shape: Shape, mark: Mark, vector: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping of a generation; *vector* is how this engine declares one."""
    declared = {name: _field(kind, shape.analyzer) for name, kind in shape.fields.items()}
    own = {"text": _field("text", shape.analyzer), **OWN, VECTOR: dict(vector)}
    return {"dynamic": False, "_meta": {"reshelve": asdict(mark)}, "properties": declared | own}


def _field(kind: str, analyzer: str) -> dict[str, Any]:
    if kind == "keyword":
        return {"type": "keyword", "ignore_above": LONGEST_TERM}
    return {"type": "text", "analyzer": analyzer} if kind == "text" else {"type": kind}


def settings(shape: Shape, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a generation while it is loaded; what the catalogue declares is laid over ours."""
    loading = {"index.number_of_shards": shape.shards, "index.number_of_replicas": 0, "index.refresh_interval": "-1"}
    return {**loading, **extra, **flat(shape.settings), **PROTECTED}


def flat(declared: Mapping[str, Any], prefix: str = "index.") -> dict[str, Any]:
    """Settings with one full name each, however they were written: `{"index": {"codec": ..}}` or `{"codec": ..}`."""
    found: dict[str, Any] = {}
    for name, value in declared.items():
        full = name if name.startswith(prefix) or name == "index" else prefix + name
        if isinstance(value, Mapping):
            inner = prefix if full == "index" else f"{full}."
            found |= flat(value, inner)
        else:
            found[full] = value
    return found


LISTED = ",".join(
    (
        "*.aliases",
        "*.mappings._meta",
        "*.settings.index.uuid",
        "*.settings.index.number_of_shards",
        "*.settings.index.number_of_replicas",
        "*.settings.index.refresh_interval",
        "*.settings.index.blocks.write",
    )
)
"""What of an index is needed to tell it apart."""


def infos(body: Mapping[str, Any]) -> Sequence[IndexInfo]:
    """The indices of an answer to `GET /{index}`, by name."""
    return [_info(name, body[name]) for name in sorted(body)]


def _info(name: str, found: Mapping[str, Any]) -> IndexInfo:
    index = found.get("settings", {}).get("index", {})
    return IndexInfo(
        name=name,
        uuid=index.get("uuid", ""),
        primaries=int(index.get("number_of_shards", 1)),
        replicas=int(index.get("number_of_replicas", 0)),
        aliases={alias: _narrowed(how) for alias, how in found.get("aliases", {}).items()},
        mark=mark_of(found.get("mappings", {}).get("_meta")),
        write_blocked=str(index.get("blocks", {}).get("write", "false")) == "true",
        refresh_seconds=seconds(index.get("refresh_interval", "1s")),
    )


def _narrowed(alias: Mapping[str, Any]) -> bool:
    return any(key in alias for key in ("filter", "index_routing", "search_routing", "routing"))


def mark_of(meta: Any) -> Mark | None:
    """The mark in `_meta`, None when there is none that we wrote."""
    try:
        return Mark(**meta["reshelve"])
    except (TypeError, KeyError):
        return None


UNITS = {"nanos": 1e-9, "micros": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(interval: str) -> float:
    """An engine's duration in seconds; -1 for never."""
    unit = next((unit for unit in UNITS if interval.endswith(unit)), None)
    return float(interval.removesuffix(unit)) * UNITS[unit] if unit else -1.0
