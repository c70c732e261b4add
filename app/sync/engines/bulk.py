"""Bulk requests: lines encoded without detours, one body of bytes, one item back a line.

A line costs one call of orjson for the body and a splice for the vector. Vectors go out as the engine takes them
best: base64 of **big-endian** float32 (little-endian is stored silently as garbage), or a list of shortest floats.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from app.errors import EngineError, IndexMissing, TooLargeForEngine
from app.sync.engines.failures import INDEX_MISSING, failure, meaning
from app.sync.engines.wire import Ask, Reply, part
from app.sync.words import Item, Line, Vectors

SECONDS = 120.0
"""How long one bulk request may take."""

PARAMS = {"require_alias": "true", "filter_path": "errors,took,items.*.status,items.*.error"}

TAKEN = Item(200)
VECTOR = b'"embedding":'


def lines(
    bodies: Sequence[tuple[str, Mapping[str, Any]]], vectors: Vectors, version: int, *, packed: bool
) -> Sequence[Line]:
    """Lines of `index` actions with external version *version*; *packed* sends vectors as base64."""
    if len(bodies) != len(vectors):
        raise ValueError(f"{len(bodies)} bodies came with {len(vectors)} vectors")
    tail = b',"version":%d,"version_type":"external_gte"}}' % version
    encoded = _packed(vectors) if packed else _listed(vectors)
    return [
        Line(name, b'{"index":{"_id":' + _json(name) + tail, _with(_json(body), vector))
        for (name, body), vector in zip(bodies, encoded, strict=True)
    ]


def deletions(ids: Sequence[str], version: int) -> Sequence[Line]:
    """Lines of `delete` actions with external version *version*."""
    tail = b',"version":%d,"version_type":"external_gte"}}' % version
    return [Line(name, b'{"delete":{"_id":' + _json(name) + tail, None) for name in ids]


def _packed(vectors: Vectors) -> list[bytes]:
    raw = np.ascontiguousarray(vectors, dtype=">f4").tobytes()
    width = len(raw) // len(vectors) if len(vectors) else 0
    return [b'"' + base64.b64encode(raw[at : at + width]) + b'"' for at in range(0, len(raw), width or 1)]


def _listed(vectors: Vectors) -> list[bytes]:
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    return [orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) for row in rows]


def _with(body: bytes, vector: bytes) -> bytes:
    comma = b"," if len(body) > 2 else b""
    return body[:-1] + comma + VECTOR + vector + b"}"


def _json(value: Any) -> bytes:
    """JSON on one line; what orjson refuses (lone surrogates, integers over 64 bits) is left to the engine to judge."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, default=str, separators=(",", ":")).encode()


def request(alias: str, batch: Sequence[Line]) -> Ask:
    """The bulk request of *batch* through *alias*."""
    parts: list[bytes] = []
    for line in batch:
        parts += (line.head,) if line.body is None else (line.head, line.body)
    what = f"take {len(batch)} documents through {alias}"
    return Ask(what, "POST", f"/{part(alias)}/_bulk", PARAMS, b"\n".join(parts) + b"\n", SECONDS)


def items(reply: Reply, batch: Sequence[Line], alias: str) -> Sequence[Item]:
    """One item a line, in order. Raises `IndexMissing` when the alias is gone."""
    if reply.body.get("errors") is False:
        return [TAKEN] * len(batch)
    answers = [_item(entry) for entry in reply.body.get("items") or ()]
    if len(answers) != len(batch):
        raise EngineError(f"A bulk request of {len(batch)} lines was answered with {len(answers)} items.")
    missing = next((item for item in answers if item.error == INDEX_MISSING), None)
    if missing:
        raise IndexMissing(f"The alias {alias} takes no writes any more: {missing.reason}.")
    return answers


def _item(entry: Mapping[str, Any]) -> Item:
    answer = next(iter(entry.values()))
    if "error" not in answer:
        return Item(answer["status"])
    failed = failure(answer["status"], answer)
    kind = TooLargeForEngine.code if meaning(failed) is TooLargeForEngine else failed.type
    return Item(failed.status, kind, failed.reason[:500])
