"""The writing half of an engine: drafts, bulk requests, and the aliases that protocols stand on.

Aliases are moved by one `_aliases` call whose every `remove` carries `must_exist: true`: without it the `add` happens
although the `remove` failed, and the alias points at two indices. An answer with `errors: true` is a refusal too. What
is missing (alias, number or index) makes a numbered move spent for good; only that is told, nothing is guessed.

A write block counts when every shard has acknowledged it: on an index that is blocked already the engine answers 200
while bulk requests may still land, so the block is lifted and taken again.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import orjson

from app.errors import EngineError, EngineUnavailable, IndexMissing, Problem, SwitchSpent
from app.sync.engines import bulk
from app.sync.engines.asking import Asking
from app.sync.engines.cloning import Cloning
from app.sync.engines.columns import Columns
from app.sync.engines.failures import INDEX_MISSING
from app.sync.engines.shapes import LISTED, VECTOR, flat, infos, mappings, settings
from app.sync.engines.store import Store
from app.sync.engines.wire import Ask, one_name, part
from app.sync.words import IndexInfo, Item, Line, Mark, Move, Shape, Vectors

BLOCK_TRIES = 5
PROBE = "reshelve-probe"
PACKED = "base64_vectors"

Action = Mapping[str, Mapping[str, Any]]


class Writing(Cloning, Columns, Asking):
    """`ports.Target` over a wire and a dialect."""

    _store: Store | None = None

    # --- drafts -------------------------------------------------------------------------------------------------------

    async def create(self, index: str, shape: Shape, aliases: Sequence[str], mark: Mark) -> None:
        """Create an index for loading and find out on it how this engine takes vectors."""
        mapping = mappings(shape, mark, self._dialect.vector(shape))
        try:
            await self._put(index, shape, mapping, aliases)
        except EngineError as error:
            if not self._dialect.unset(error.detail):
                raise
            await self._put(index, shape, mapping, aliases)
        if self._dialect.packs:
            self._abilities[PACKED] = await self._tried(index, shape.dims)

    async def clone(self, live: str, index: str, aliases: Sequence[str]) -> None:
        """Clone *live* and, where no index was made yet, find out on the clone how this engine takes vectors."""
        await super().clone(live, index, aliases)
        if self._dialect.packs and PACKED not in self._abilities:
            dims = (await self.properties(index)).get(VECTOR, {}).get("dims")
            self._abilities[PACKED] = dims is not None and await self._tried(index, dims)

    async def analyses(self, shape: Shape) -> bool:
        """Whether an index of *shape* would have its analyser. Where asking is not permitted, `create` tells."""
        if any(key.startswith(f"index.analysis.analyzer.{shape.analyzer}.") for key in flat(shape.settings)):
            return True
        body = {"analyzer": shape.analyzer, "text": "a"}
        ask = Ask(f"use the analyser {shape.analyzer}", "POST", "/_analyze", body=body)
        return (await self._wire.ask(ask, allow={400, 403})).status != 400

    async def _put(self, index: str, shape: Shape, mapping: Mapping[str, Any], aliases: Sequence[str]) -> None:
        body = {
            "settings": settings(shape, self._dialect.settings()),
            "mappings": mapping,
            "aliases": {alias: {} for alias in aliases},
        }
        await self._wire.ask(Ask(f"create the index {index}", "PUT", f"/{one_name(index)}", body=body, seconds=90))

    async def _tried(self, index: str, dims: int) -> bool:
        """`_takes_packed` of a new index, which goes when the trial fails, so that `create` can be repeated."""
        try:
            return await self._takes_packed(index, dims)
        except Problem:
            with suppress(Problem):
                await self.drop(index)
            raise

    async def _takes_packed(self, index: str, dims: int) -> bool:
        """Whether a base64 vector is taken and comes back as it was; tried with one document, then deleted."""
        sent = np.arange(1, dims + 1, dtype=np.float32)
        sent /= np.linalg.norm(sent)
        line = bulk.lines([(PROBE, {})], sent[None], 1, packed=True)[0]
        path = f"/{part(index)}/_doc/{PROBE}"
        params = {"version": "1", "version_type": "external_gte", "refresh": "true"}
        what = f"take a vector into {index}"
        reply = await self._wire.ask(Ask(what, "PUT", path, params, orjson.loads(line.body or b"")), allow={400})
        if reply.status == 400:
            return False
        stored = (await self.vectors(index, [PROBE])).get(PROBE)
        await self._wire.ask(Ask(f"delete a document of {index}", "DELETE", path, params))
        return stored is not None and stored.tobytes() == sent.tobytes()

    def lines(self, bodies: Sequence[tuple[str, Mapping[str, Any]]], vectors: Vectors, version: int) -> Sequence[Line]:
        """Bulk lines of `(id, body)` and their vectors. CPU only: call it in a thread."""
        return bulk.lines(bodies, vectors, version, packed=self._abilities.get(PACKED, False))

    def deletions(self, ids: Sequence[str], version: int) -> Sequence[Line]:
        """Bulk lines that delete *ids*."""
        return bulk.deletions(ids, version)

    async def store(self) -> Store:
        """The vectors that this engine keeps."""
        if self._store is None:
            self._store = Store(self._wire, self, self._vectors_index)
        return self._store

    async def bulk(self, alias: str, lines: Sequence[Line]) -> Sequence[Item]:
        """One bulk request through *alias*, one item a line, in order."""
        if not lines:
            return []
        return bulk.items(await self._wire.ask(bulk.request(alias, lines)), lines, alias)

    async def drop(self, index: str) -> None:
        """Delete one index by its concrete name; one that is gone already is no error.

        An alias is refused here: OpenSearch acknowledges the deletion of one and does nothing.
        """
        if any(info.name != index for info in await self.resolve(index)):
            raise EngineError(f"{index} is an alias: indices are deleted by their own name.", code="index_name")
        params = {"expand_wildcards": "none"}
        await self._wire.ask(Ask(f"delete {index}", "DELETE", f"/{one_name(index)}", params, seconds=60), allow={404})

    async def listed(self, prefix: str) -> Sequence[IndexInfo]:
        """All indices whose name begins with *prefix*, with their marks."""
        params = {"filter_path": LISTED, "expand_wildcards": "open,closed,hidden"}
        ask = Ask(f"list the indices {prefix}*", "GET", f"/{one_name(prefix)}*", params)
        reply = await self._wire.ask(ask, allow={404})
        found = infos(reply.body) if reply.status == 200 else []
        return [info for info in found if info.name.startswith(prefix)]

    # --- settings -----------------------------------------------------------------------------------------------------

    async def block(self, index: str) -> None:
        """Refuse writes and return when those under way have ended."""
        ask = Ask(f"block writes to {index}", "PUT", f"/{one_name(index)}/_block/write", seconds=60)
        for _ in range(BLOCK_TRIES):
            reply = await self._wire.ask(ask)
            if reply.body.get("shards_acknowledged") is True:
                return
            await self.unblock(index)
        raise EngineUnavailable(f"{self._wire.name} took the write block of {index} but not every shard said so.")

    async def unblock(self, index: str) -> None:
        """Accept writes again."""
        await self._settings(index, {"index.blocks.write": None})

    async def graph(self, index: str, shape: Shape) -> None:
        """Let the next merge build the graph that loading did without."""
        if field := self._dialect.graphed(shape):
            path = f"/{one_name(index)}/_mapping"
            body = {"properties": {VECTOR: field}}
            await self._wire.ask(Ask(f"ask for the graph of {index}", "PUT", path, body=body, seconds=60))

    async def settle(self, index: str, refresh_interval: str, replicas: int) -> None:
        """Restore what loading switched off."""
        await self._settings(index, {"index.refresh_interval": refresh_interval, "index.number_of_replicas": replicas})

    async def _settings(self, index: str, changed: Mapping[str, Any]) -> None:
        path = f"/{one_name(index)}/_settings"
        await self._wire.ask(Ask(f"change settings of {index}", "PUT", path, body=changed, seconds=60))

    # --- aliases ------------------------------------------------------------------------------------------------------

    async def swap_alias(self, index: str, old: str, new: str) -> None:
        """Put *new* in the place of *old* on one index, atomically."""
        what = f"put the alias {new} in the place of {old} on {index}"
        try:
            await self._aliases(what, [_remove(index, old), _add(index, new)])
        except EngineError as error:
            if error.extra.get("engine_error") == INDEX_MISSING:
                raise IndexMissing(error.detail) from None
            raise

    async def move(self, move: Move) -> None:
        """One numbered move: alias and number leave where they were and arrive on `move.target`, in one call.

        A first switch claims to be the alias's write index: engines let only one index have that, so that of two
        racers one is refused, though neither has anything to remove. An alias that somebody else put on an index is
        looked for just before.
        """
        if move.source is None and (there := await self.resolve(move.alias)):
            raise SwitchSpent(f"The alias {move.alias} is on {there[0].name} already: nothing was moved.")
        leave = [_remove(move.holder, move.token)]
        arrive = [_add(move.target, move.next_token)]
        if move.source is None:
            arrive.append(_add(move.target, move.alias, is_write_index=True))
        else:
            leave.append(_remove(move.source, move.alias))
            arrive.append(_add(move.target, move.alias))
        await self._aliases(f"move the alias {move.alias} to {move.target} as number {move.number}", leave + arrive)

    async def burn(self, alias: str, number: int, holder: str) -> None:
        """Spend number *number* without moving."""
        spent = Move(alias, number, holder, None, holder)
        actions = [_remove(holder, spent.token), _add(holder, spent.next_token)]
        await self._aliases(f"spend the number {number} of {alias}", actions)

    async def _aliases(self, what: str, actions: Sequence[Action]) -> None:
        """All of *actions* or none. Raises `SwitchSpent` when one of them could not be done."""
        ask = Ask(what, "POST", "/_aliases", body={"actions": actions})
        reply = await self._wire.ask(ask, allow={404, 500})
        if reply.status == 200 and not reply.body.get("errors"):
            return
        failed = reply.failure
        if reply.status == 500 and failed.type != "illegal_state_exception":
            raise EngineUnavailable(f"{self._wire.name} failed to {what}: {failed}.")
        raise SwitchSpent(f"{self._wire.name} would not {what}: {failed}.", engine_error=failed.type)


def _remove(index: str, alias: str) -> Action:
    return {"remove": {"index": index, "alias": alias, "must_exist": True}}


def _add(index: str, alias: str, **how: bool) -> Action:
    return {"add": {"index": index, "alias": alias, **how}}
