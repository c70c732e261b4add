"""What a run will need of an engine, asked before anything is built, by requests that cannot do anything.

- Would it make such an index? A template is simulated: settings, analysers and the vector's index type are judged as
  for a real one, and nothing is kept.
- May this user do it? Each right is asked for by a request that needs it and cannot succeed: an index of no shards, an
  alias that nobody has, a document for an alias that is not there. Engines, and the proxies before them, judge the
  right first, so 401 and 403 tell, and every other answer means yes. Elasticsearch also lists rights, when it is
  secured; where that API is not there, the requests alone must do.
- How much of a disk must stay free? The flood stage is read, not guessed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from app.errors import EngineError, Problem
from app.sync.engines.failures import failure, problem
from app.sync.engines.reading import Reading
from app.sync.engines.shapes import mappings, settings
from app.sync.engines.wire import Ask, Reply, one_name
from app.sync.words import Mark, Shape

NEVER = "00000000000000"
"""Stands where an index of ours has its moment: no index is ever made at this one."""

IMPOSSIBLE = {"settings": {"index.number_of_shards": 0}}
"""No engine makes an index of no shards."""

YES = frozenset(range(400, 600)) - {401, 403, 429, 503}
"""Statuses of a request that was let through and then refused, as it was meant to be."""

UNASKABLE = frozenset({400, 403, 404, 405, 500, 501})

PRIORITY = 1_703_206_711
"""Of simulated templates: one that nobody else's template has, as engines refuse two of the same."""

UNITS = {"b": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40, "pb": 2**50}
DISK = "cluster.routing.allocation.disk"


class Asking(Reading):
    """The part of `ports.Target` that is asked before a run."""

    async def accepts(self, shape: Shape) -> None:
        """Raises `EngineError(code="shape_refused")` when no index of *shape* could be made, with the reason."""
        whole = replace(shape, graph_later=False)
        reply = await self._simulated(whole)
        if reply.status == 400 and self._dialect.unset(reply.failure.reason):
            reply = await self._simulated(whole)
        if reply.status == 400:
            cure = "correct target.settings, recipe.vector, recipe.analyzer or recipe.fields"
            detail = f"{self._wire.name} would not make an index for this catalogue: {plain(reply.body)}; {cure}."
            raise EngineError(detail, code="shape_refused")

    async def _simulated(self, shape: Shape) -> Reply:
        template = {
            "settings": settings(shape, self._dialect.settings()),
            "mappings": mappings(shape, Mark("", "", "", "", ""), self._dialect.vector(shape)),
        }
        body = {"index_patterns": [f"simulated-{uuid4().hex}"], "priority": PRIORITY, "template": template}
        ask = Ask("simulate an index", "POST", "/_index_template/_simulate", body=body)
        return await self._wire.ask(ask, allow=UNASKABLE)

    async def denied(self, base: str, alias: str, live: str | None) -> Sequence[Problem]:
        """What this user may not do with generations `<base>-...` behind *alias*, a problem each; empty for nothing."""
        found = await self._unlisted(base, alias)
        for ask in attempts(base, alias, live, self._vectors_index):
            if refusal := await self._attempted(ask):
                found.append(refusal)
        return found

    async def _attempted(self, ask: Ask) -> Problem | None:
        reply = await self._wire.ask(ask, allow=YES | {401, 403})
        failed = reply.failure
        if reply.status == 200 and ask.path.endswith("/_bulk"):
            answer = next(iter(reply.body["items"][0].values()))
            failed = failure(answer["status"], answer)
        return problem(failed, self._wire.name, ask.what) if failed.status in (401, 403) else None

    async def _unlisted(self, base: str, alias: str) -> list[Problem]:
        """The privileges that Elasticsearch says are missing; none where it cannot be asked."""
        body = privileges(base, alias, self._vectors_index)
        ask = Ask("list privileges", "POST", "/_security/user/_has_privileges", body=body)
        reply = await self._wire.ask(ask, allow=YES | {401, 403})
        if reply.status != 200 or reply.body.get("has_all_requested", True):
            return []
        missing = [f"{right} on the cluster" for right, has in reply.body.get("cluster", {}).items() if not has]
        for name, rights in reply.body.get("index", {}).items():
            missing += [f"{right} on {name}" for right, has in rights.items() if not has]
        detail = f"{self._wire.name} does not grant this user {', '.join(missing)}: grant it."
        return [EngineError(detail, code="engine_forbidden")]

    async def reserve(self, total: int) -> int:
        """Bytes that must stay free on a data node's disk of *total* bytes: with less, the engine refuses writes."""
        params = {"include_defaults": "true", "filter_path": f"*.{DISK}", "flat_settings": "false"}
        reply = await self._wire.ask(Ask("tell its settings", "GET", "/_cluster/settings", params), allow=UNASKABLE)
        told = [_inside(reply.body.get(kind, {})) for kind in ("defaults", "persistent", "transient")]
        disk = {**told[0], **told[1], **told[2]}
        if disk.get("threshold_enabled", "false") != "true":
            return 0
        marks = {**told[0].get("watermark", {}), **told[1].get("watermark", {}), **told[2].get("watermark", {})}
        return reserved(str(marks.get("flood_stage", "95%")), str(marks.get("flood_stage.max_headroom", "-1")), total)


def attempts(base: str, alias: str, live: str | None, vectors: str) -> Iterator[Ask]:
    """Requests that need a right each and cannot do anything."""
    index, store = one_name(f"{base}-{NEVER}"), one_name(vectors)
    yield Ask(f"create indices {base}-*", "PUT", f"/{index}", body=IMPOSSIBLE)
    gone = {"remove": {"index": f"{base}-{NEVER}", "alias": f"{alias}.never", "must_exist": True}}
    yield Ask(f"move the alias {alias}", "POST", "/_aliases", body={"actions": [gone]})
    yield _write(f"write to {base}-*", f"{index}.fill-0")
    yield Ask(f"create the index {vectors} of kept vectors", "PUT", f"/{store}", body=IMPOSSIBLE)
    yield _write(f"write to {vectors}, where vectors are kept", store)
    if live:
        yield Ask(f"clone {live}", "PUT", f"/{one_name(live)}/_clone/{index}", body=IMPOSSIBLE)


def _write(what: str, name: str) -> Ask:
    """An index is no alias, and there is no such alias: nothing is written, no index is made."""
    return Ask(what, "POST", f"/{name}/_bulk", {"require_alias": "true"}, b'{"index":{"_id":"-"}}\n{}\n')


def privileges(base: str, alias: str, vectors: str) -> Mapping[str, Any]:
    """What Elasticsearch calls the rights that a run needs of the target's engine."""
    return {
        "cluster": ["monitor"],
        "index": [
            {"names": [f"{base}-*", alias, f"{alias}.*"], "privileges": ["manage", "read", "write"]},
            {"names": [vectors], "privileges": ["create_index", "read", "write"]},
        ],
    }


def plain(body: Mapping[str, Any]) -> str:
    """The innermost reason, without the name that engines give to a simulated template."""
    error = body.get("error")
    while isinstance(error, Mapping) and isinstance(error.get("caused_by"), Mapping):
        error = error["caused_by"]
    reason = str(error.get("reason") if isinstance(error, Mapping) else error)
    return re.sub(r"^.*?Validation Failed: (.*?);?\]$", r"\1", reason, flags=re.DOTALL)[:400]


def reserved(flood: str, headroom: str, total: int) -> int:
    """The flood stage in bytes: a share of the disk that may be used (at most *headroom* kept), or bytes to keep."""
    if flood.endswith("%"):
        kept, most = int(total * (1 - float(flood[:-1]) / 100)), _bytes(headroom)
        return min(kept, most) if most is not None else kept
    share = re.fullmatch(r"0?\.\d+|[01]", flood)
    return int(total * (1 - float(flood))) if share else _bytes(flood) or 0


def _bytes(size: str) -> int | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgtp]?b)", size.lower())
    return int(float(found[1]) * UNITS[found[2]]) if found else None


def _inside(settings: Any) -> dict[str, Any]:
    for name in DISK.split("."):
        settings = settings.get(name, {})
    return dict(settings)
