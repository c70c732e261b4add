"""What an index of ours holds, read from its columns alone, counts by query, and what the cluster has left.

Nothing of `_source` is read: ids and hashes have doc values, which engines hand out many times faster than documents.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from anyio import to_thread

from app.errors import EngineError
from app.sync.engines.reading import Reading
from app.sync.engines.wire import Ask, one_name
from app.sync.words import Cursor, Holding, Room, Slice

COLUMNS = ("source_id", "input_hash", "text_hash")

UNTOLD = frozenset({400, 401, 403, 404, 405})
"""Statuses of a question that this user may not ask, or that this cluster does not know."""

SHARDS = "max_shards_per_node"


class Columns(Reading):
    """The part of `ports.Target` that reads columns."""

    async def holding(
        self, pit: str, part: Slice, after: Cursor | None, size: int, where: Sequence[Mapping[str, Any]] = ()
    ) -> Holding:
        """The next documents of a slice of an index of ours, at most *size*, that fulfil all of *where*."""
        query = {"query": {"bool": {"filter": list(where)}}} if where else {}
        found, cursor, _ = await self._next(pit, part, after, size, {**COLUMNS_ONLY, **query})
        ids, inputs, texts = await to_thread.run_sync(_columns, found)
        return Holding(ids, inputs, texts, cursor)

    async def counted(self, index: str, where: Sequence[Mapping[str, Any]]) -> int:
        """How many documents of a refreshed index fulfil all of these query clauses."""
        body = {"query": {"bool": {"filter": list(where)}}}
        what = f"count documents of {index}"
        reply = await self._wire.ask(Ask(what, "POST", f"/{one_name(index)}/_count", body=body, seconds=60))
        self._complete(reply, what)
        return int(reply.body["count"])

    async def room(self) -> Room:
        """Bytes free on the data node with least, and shards that may still be opened; None for what is not told."""
        disks, health = await self._disks(), await self._told("/_cluster/health", {})
        nodes = int(health.get("number_of_data_nodes", max(len(disks), 1)))
        fullest = min(disks, key=lambda disk: disk["available_in_bytes"], default={})
        shards = await self._shards_left(nodes, health)
        return Room(fullest.get("available_in_bytes"), fullest.get("total_in_bytes"), shards, nodes)

    async def _disks(self) -> list[Mapping[str, int]]:
        body = await self._told("/_nodes/data:true/stats/fs", {"filter_path": "nodes.*.fs.total"})
        return [node["fs"]["total"] for node in body.get("nodes", {}).values()]

    async def _shards_left(self, nodes: int, health: Mapping[str, Any]) -> int | None:
        params = {"include_defaults": "true", "filter_path": f"*.cluster.{SHARDS}"}
        settings = await self._told("/_cluster/settings", params)
        kinds = [settings[kind] for kind in ("transient", "persistent", "defaults") if kind in settings]
        if not kinds or "active_shards" not in health:
            return None
        return int(kinds[0]["cluster"][SHARDS]) * nodes - int(health["active_shards"])

    async def _told(self, path: str, params: Mapping[str, str]) -> Mapping[str, Any]:
        """What the cluster says; nothing where it may not be asked."""
        reply = await self._wire.ask(Ask("tell what room it has", "GET", path, params), allow=UNTOLD)
        found: Mapping[str, Any] = reply.body if reply.status == 200 else {}
        return found


NONE: Mapping[str, Any] = {}

COLUMNS_ONLY: Mapping[str, Any] = {"_source": False, "stored_fields": "_none_", "docvalue_fields": list(COLUMNS)}


def _columns(found: Sequence[Mapping[str, Any]]) -> Sequence[Sequence[str]]:
    """Ids, input and text hashes of hits. CPU only."""
    columns = [hit.get("fields", NONE) for hit in found]
    if any("source_id" not in one for one in columns):
        raise EngineError("A document has no source_id: this index is not ours.", code="not_ours")
    return [[one[name][0] if name in one else "" for one in columns] for name in COLUMNS]
