"""The reading half of an engine: what a source needs, and what proofs of a target read.

A page that is short is never silent: partial results are forbidden, failed shards are an error, and a slice ends on an
empty page only. When a point in time dies, the source is looked at: a deleted index answers like a busy one (503).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from anyio import current_time

from app.errors import EngineError, EngineUnavailable, Forbidden, IndexMissing, Problem, SourceGone
from app.sync.engines.dialect import Dialect, Pit
from app.sync.engines.failures import failure, problem
from app.sync.engines.shapes import LISTED, VECTOR, infos
from app.sync.engines.wire import Ask, Reply, Wire, one_name
from app.sync.words import About, Cursor, Hit, IndexInfo, Page, Slice

ABOUT_SECONDS = 60.0
"""How long the number of data nodes is believed."""

PAGE_SECONDS = 120.0

OPENED_SECONDS = 60
"""So long a point in time lives that nobody reads: its opener died before it could write down the id."""

MOST_IDS = 1000

WHOLE = {"allow_partial_search_results": "false"}
"""Every shard answers, or the search fails."""

Fields = Sequence[str] | None


class Reading:
    """`ports.Reader` over a wire and a dialect."""

    def __init__(self, wire: Wire, dialect: Dialect, version: str, vectors_index: str = "reshelve-vectors") -> None:
        self._wire, self._dialect, self._version, self._vectors_index = wire, dialect, version, vectors_index
        self._abilities: dict[str, bool] = {}
        self._nodes: tuple[float, int] | None = None

    async def about(self) -> About:
        """Kind, version, data nodes, and the abilities that were found out so far."""
        now = current_time()
        if self._nodes is None or now - self._nodes[0] > ABOUT_SECONDS:
            reply = await self._wire.ask(Ask("tell its health", "GET", "/_cluster/health"))
            self._nodes = (now, int(reply.body["number_of_data_nodes"]))
        return About(self._dialect.kind, self._version, self._nodes[1], dict(self._abilities))

    async def resolve(self, name: str) -> Sequence[IndexInfo]:
        """The indices behind an index name or an alias; empty when there are none."""
        params = {"filter_path": LISTED, "expand_wildcards": "none"}
        reply = await self._wire.ask(Ask(f"describe {name}", "GET", f"/{one_name(name)}", params), allow={404})
        return infos(reply.body) if reply.status == 200 else []

    async def properties(self, index: str) -> Mapping[str, Any]:
        """`mappings.properties` of one index."""
        reply = await self._wire.ask(Ask(f"show the mapping of {index}", "GET", f"/{one_name(index)}/_mapping"))
        found: Mapping[str, Any] = next(iter(reply.body.values()))["mappings"].get("properties", {})
        return found

    async def refresh(self, index: str) -> None:
        """Make what was written visible to search. Raises `Forbidden` where that is not permitted."""
        try:
            reply = await self._wire.ask(Ask(f"refresh {index}", "POST", f"/{one_name(index)}/_refresh", seconds=120))
        except EngineError as error:
            if error.code == "engine_forbidden":
                raise Forbidden(error.detail) from None
            raise
        if reply.body["_shards"]["failed"]:
            raise EngineUnavailable(f"{self._wire.name} did not refresh every shard of {index}.")

    # --- points in time -----------------------------------------------------------------------------------------------

    async def open_pit(self, index: str, keep_alive: float) -> str:
        """Open a point in time on one concrete index; it lives for *keep_alive* seconds after each time it is read."""
        found = await self.resolve(index)
        if [info.name for info in found] != [index]:
            raise IndexMissing(f"{self._wire.name} has no index of the name {index}.")
        seconds = max(int(keep_alive), 1)
        reply = await self._wire.ask(self._dialect.open_pit(index, min(seconds, OPENED_SECONDS)))
        return str(Pit(index, found[0].uuid, found[0].primaries, seconds, self._dialect.pit_id(reply.body)))

    async def close_pit(self, pit: str) -> None:
        """Close it; one that is gone already is no error."""
        await self._wire.ask(self._dialect.close_pit(Pit.of(pit).id), allow={404})

    async def pit_count(self, pit: str, index: str) -> int:
        """How many documents the point in time on *index* holds."""
        held = Pit.of(pit)
        if held.index != index:
            raise SourceGone(f"The point in time is on {held.index}, not on {index}.")
        reply = await self._search(held, {"size": 0, "track_total_hits": True})
        return int(reply.body["hits"]["total"]["value"])

    async def page(self, pit: str, part: Slice, after: Cursor | None, size: int, fields: Fields) -> Page:
        """The next page of a part."""
        found, cursor, size_read = await self._next(pit, part, after, size, {"_source": _wanted(fields)})
        return Page(part, [_hit(hit) for hit in found], cursor, size_read)

    async def _next(
        self, pit: str, part: Slice, after: Cursor | None, size: int, wanted: Mapping[str, Any]
    ) -> tuple[Sequence[Mapping[str, Any]], Cursor | None, int]:
        """The next hits of a part, where to go on, and the bytes it took.

        The cursor is the engine's own, behind the number of the slice it belongs to.
        """
        held, size_read = Pit.of(pit), 0
        slices = self._dialect.slices(part, held.primaries)
        at, cursor = (int(after[0]), list(after[1:])) if after else (0, [])
        while at < len(slices):
            reply = await self._sliced(held, slices[at], cursor, {"size": size, **wanted})
            size_read += reply.size
            if found := reply.body["hits"]["hits"]:
                return found, [at, *found[-1]["sort"]], size_read
            at, cursor = at + 1, []
        return [], None, size_read

    async def _sliced(self, pit: Pit, part: Slice, cursor: Cursor, wanted: Mapping[str, Any]) -> Reply:
        body: dict[str, Any] = {"track_total_hits": False, **wanted}
        if part.of > 1:
            body["slice"] = {"id": part.number, "max": part.of}
        if cursor:
            body["search_after"] = cursor
        try:
            return await self._search(pit, body | {"sort": [self._dialect.sort()]})
        except EngineError as error:
            if not self._dialect.unsorted(error.detail):
                raise
        return await self._search(pit, body | {"sort": [self._dialect.sort()]})

    async def pit_get(self, pit: str, ids: Sequence[str], fields: Fields) -> Sequence[Hit]:
        """Those of *ids* that the point in time holds."""
        found: list[Hit] = []
        for some in _portions(ids):
            body = {"size": len(some), "query": {"ids": {"values": some}}, "_source": _wanted(fields)}
            reply = await self._search(Pit.of(pit), body)
            found += [_hit(hit) for hit in reply.body["hits"]["hits"]]
        return found

    async def _search(self, pit: Pit, body: Mapping[str, Any]) -> Reply:
        """Search in a point in time: every shard answered, or a problem says why not."""
        keep = {"id": pit.id, "keep_alive": f"{pit.keep_alive}s"}
        what = f"read from {pit.index}"
        ask = Ask(what, "POST", "/_search", WHOLE, {**body, "pit": keep}, PAGE_SECONDS)
        try:
            reply = await self._wire.ask(ask)
        except (IndexMissing, SourceGone) as error:
            raise SourceGone(self._gone(pit), engine=error.detail) from None
        except EngineUnavailable:
            await self._still_there(pit)
            raise
        self._complete(reply, what)
        return reply

    def _complete(self, reply: Reply, what: str) -> None:
        """Raise unless every shard answered in time."""
        shards = reply.body["_shards"]
        if shards["failed"]:
            reasons = [failure(reply.status, {"error": one.get("reason")}) for one in shards.get("failures", ())]
            if reasons:
                raise problem(reasons[0], self._wire.name, what)
            raise EngineUnavailable(f"{self._wire.name} failed on a shard to {what}.")
        if reply.body.get("timed_out"):
            raise EngineUnavailable(f"{self._wire.name} ran out of time to {what}.")

    async def _still_there(self, pit: Pit) -> None:
        """Raise `SourceGone` when the index of *pit* is another one now, or none."""
        try:
            found = await self.resolve(pit.index)
        except Problem:
            return
        if [info.uuid for info in found] != [pit.uuid]:
            raise SourceGone(self._gone(pit))

    def _gone(self, pit: Pit) -> str:
        return (
            f"The point in time on {pit.index} is gone: the index was deleted or re-created, or nobody read for "
            f"{pit.keep_alive} s. Start again; nothing was promoted."
        )

    # --- by id --------------------------------------------------------------------------------------------------------

    async def get(self, index: str, ids: Sequence[str], fields: Fields) -> Sequence[Hit]:
        """Those of *ids* that the index holds, in real time, with their versions. Vectors are left out."""
        wanted = _wanted(fields)
        if fields is None:
            wanted = {"excludes": [VECTOR]}
        found: list[Hit] = []
        for some in _portions(ids):
            found += await self._get(index, some, wanted, {})
        return found

    async def _get(self, index: str, ids: Sequence[str], wanted: Any, params: Mapping[str, str]) -> list[Hit]:
        what = f"read {len(ids)} documents of {index}"
        body = {"docs": [{"_id": name, "_source": wanted} for name in ids]}
        reply = await self._wire.ask(Ask(what, "POST", f"/{one_name(index)}/_mget", params, body, PAGE_SECONDS))
        return [_found(one) for one in reply.body["docs"] if self._is_found(one, what)]

    def _is_found(self, answer: Mapping[str, Any], what: str) -> bool:
        """Whether a document is there. Only `found: false` means that it is not; trouble is no absence."""
        if isinstance(there := answer.get("found"), bool):
            return there
        raise problem(failure(404, answer), self._wire.name, what)

    async def search_stats(self, index: str) -> Mapping[str, int]:
        """Open contexts, documents, deleted documents and bytes of the primaries of one index."""
        path = f"/{one_name(index)}/_stats/search,docs,store"
        reply = await self._wire.ask(Ask(f"count {index}", "GET", path))
        found = reply.body["_all"]["primaries"]
        return {
            "open_contexts": found["search"]["open_contexts"],
            "documents": found["docs"]["count"],
            "deleted": found["docs"]["deleted"],
            "bytes": found["store"]["size_in_bytes"],
        }

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()


def _wanted(fields: Fields) -> Any:
    """The `_source` of a request: everything, nothing, or some patterns."""
    if fields is None:
        return True
    return list(fields) or False


def _portions(ids: Sequence[str]) -> Sequence[Sequence[str]]:
    return [ids[start : start + MOST_IDS] for start in range(0, len(ids), MOST_IDS)]


def _hit(hit: Mapping[str, Any]) -> Hit:
    return Hit(hit["_id"], hit.get("_source") or {})


def _found(answer: Mapping[str, Any]) -> Hit:
    return Hit(answer["_id"], answer.get("_source") or {}, answer["_version"])
