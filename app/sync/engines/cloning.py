"""Clones of an index of ours: by hard links, graphs included, with the versions of its documents and its mark.

An engine clones only what refuses writes; asked for a clone of anything else it answers 500, which never heals. A clone
is born with the settings of the index it came from: those of loading are laid over them, and the block is lifted. What
is not flushed yet is flushed first, or the clone would replay it. A clone that does not come up goes again; one whose
request got no answer is left to whoever knows its name.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

from anyio import CancelScope, move_on_after

from app.errors import Conflict, EngineError, EngineUnavailable, Problem
from app.sync.engines.proving import Proving
from app.sync.engines.wire import Ask, Reply, one_name
from app.sync.words import Mark

CLONE_SECONDS = 60.0
"""How long a clone may take to be ready; links take a second, a copy between file systems longer."""

DROP_SECONDS = 3.0

LOADING = {
    "index.refresh_interval": "-1",
    "index.number_of_replicas": 0,
    "index.gc_deletes": "1h",
    "index.blocks.write": None,
}

EXISTS = "resource_already_exists_exception"


class Cloning(Proving):
    """The part of `ports.Target` that makes clones."""

    async def clone(self, live: str, index: str, aliases: Sequence[str]) -> None:
        """Clone *live*, which is write-blocked; return when the clone can be written."""
        path = f"/{one_name(live)}/_clone/{one_name(index)}"
        await self._wire.ask(Ask(f"flush {live}", "POST", f"/{one_name(live)}/_flush", seconds=CLONE_SECONDS))
        body = {"settings": LOADING, "aliases": {alias: {} for alias in aliases}}
        params = {"wait_for_active_shards": "1", "timeout": f"{CLONE_SECONDS:.0f}s"}
        ask = Ask(f"clone {live}", "PUT", path, params, body, CLONE_SECONDS + 30)
        self._made(await self._wire.ask(ask, allow={400, 500}), live, index)
        try:
            await self._started(index)
        except BaseException:
            with CancelScope(shield=True), move_on_after(DROP_SECONDS), suppress(Problem):
                await self._wire.ask(Ask(f"delete {index}", "DELETE", f"/{one_name(index)}"), allow={404})
            raise

    def _made(self, reply: Reply, live: str, index: str) -> None:
        """Raise what a refusal stands for: none of them heals by asking again."""
        failed = reply.failure
        if failed.type == EXISTS:
            raise Conflict(f"{self._wire.name} has an index {index} already.", code="index_exists")
        if reply.status != 200:
            raise EngineError(f"{self._wire.name} would not clone {live}: {failed}.", code="clone_refused")

    async def _started(self, index: str) -> None:
        """Wait until every primary of the clone has come up."""
        if await self._health(index, "yellow", CLONE_SECONDS) == "red":
            raise EngineUnavailable(f"{self._wire.name} did not bring the clone {index} up in {CLONE_SECONDS:.0f} s.")

    async def remark(self, index: str, mark: Mark) -> None:
        """Put *mark* in the place of the one that an index has; what else its `_meta` says stays."""
        path = f"/{one_name(index)}/_mapping"
        shown = await self._wire.ask(Ask(f"show the mark of {index}", "GET", path))
        meta = next(iter(shown.body.values()))["mappings"].get("_meta", {})
        body = {"_meta": {**meta, "reshelve": asdict(mark)}}
        await self._wire.ask(Ask(f"mark {index}", "PUT", path, body=body, seconds=60))
