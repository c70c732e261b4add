"""One index of the twin: documents by external version, tombstones, and what a refresh made visible.

The rules are those measured on real engines: `external_gte` (an equal version wins, a lower one is a conflict), a
delete leaves a tombstone also for an id never seen, searches see the state of the last refresh, reads by id the state
of now, a document of the wrong shape is refused alone.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import orjson

from app.sync.engines.failures import CLUSTER_BLOCK, VERSION_CONFLICT
from app.sync.engines.shapes import VECTOR, seconds
from app.sync.words import Hit, IndexInfo, Item, Line, Mark, Vectors

BAD = "document_parsing_exception"
LONGEST_ID = 512


@dataclass(frozen=True, slots=True)
class Stored:
    """One document: its source without the vector, and the vector."""

    version: int
    source: Mapping[str, Any]
    vector: Vectors | None


@dataclass
class MemoryIndex:
    """What an engine keeps of one index."""

    name: str
    uuid: str
    properties: Mapping[str, Any]
    mark: Mark | None = None
    primaries: int = 1
    replicas: int = 0
    refresh_interval: str = "-1"
    write_blocked: bool = False
    aliases: dict[str, bool] = field(default_factory=dict)
    documents: dict[str, Stored] = field(default_factory=dict)
    tombstones: dict[str, int] = field(default_factory=dict)
    visible: Mapping[str, Stored] = field(default_factory=dict)

    def info(self) -> IndexInfo:
        """As the engine lists it."""
        return IndexInfo(
            self.name,
            self.uuid,
            self.primaries,
            self.replicas,
            dict.fromkeys(self.aliases, False),
            self.mark,
            self.write_blocked,
            seconds(self.refresh_interval),
        )

    def refresh(self) -> None:
        """Make everything visible to searches."""
        self.visible = dict(self.documents)

    def cloned(self, name: str, uuid: str) -> "MemoryIndex":
        """Documents with their versions, and the mark; no tombstones, no aliases, no block."""
        documents = dict(self.documents)
        return MemoryIndex(
            name, uuid, self.properties, self.mark, self.primaries, documents=documents, visible=documents
        )

    def searched(self) -> Mapping[str, Stored]:
        """What a search sees; an index that refreshes by itself has done so."""
        if self.refresh_interval != "-1":
            self.refresh()
        return self.visible

    def write(self, line: Line) -> Item:
        """Do one bulk action."""
        action, how = next(iter(orjson.loads(line.head).items()))
        if self.write_blocked:
            return Item(403, CLUSTER_BLOCK, f"index [{self.name}] blocked by: [FORBIDDEN/8/index write (api)];")
        name, version = how["_id"], how["version"]
        held = self.documents[name].version if name in self.documents else self.tombstones.get(name, -1)
        if version < held:
            reason = f"[{name}]: version conflict, current version [{held}] is higher than the one provided [{version}]"
            return Item(409, VERSION_CONFLICT, reason)
        return self._delete(name, version) if action == "delete" else self._index(name, version, line)

    def _delete(self, name: str, version: int) -> Item:
        self.tombstones[name] = version
        return Item(200) if self.documents.pop(name, None) else Item(404)

    def _index(self, name: str, version: int, line: Line) -> Item:
        try:
            source = orjson.loads(line.body or b"")
            stored = self._stored(source, version)
        except (ValueError, TypeError, binascii.Error) as error:
            return Item(400, BAD, f"failed to parse document with id '{name}': {error}")
        created = name not in self.documents
        self.documents[name] = stored
        self.tombstones.pop(name, None)
        return Item(201 if created else 200)

    def _stored(self, source: dict[str, Any], version: int) -> Stored:
        declared = self.properties.get(VECTOR, {})
        vector = _vector(source.pop(VECTOR), declared["dims"]) if "dims" in declared and VECTOR in source else None
        for name, value in source.items():
            _check(name, self.properties.get(name, {}).get("type"), value)
        return Stored(version, source, vector)

    def seed(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Put documents in as somebody else would have."""
        self.documents |= {name: Stored(1, dict(source), None) for name, source in documents.items()}
        self.refresh()


def _vector(given: Any, dims: int) -> Vectors:
    """A vector as engines read it: base64 is big-endian, and only length tells whether it fits."""
    if isinstance(given, str):
        vector = np.frombuffer(base64.b64decode(given, validate=True), dtype=">f4").astype(np.float32)
    else:
        vector = np.asarray(given, dtype=np.float32)
    if vector.shape != (dims,):
        raise ValueError(f"The vector has shape {vector.shape} instead of ({dims},)")
    return vector


NUMBERS = {"double": float, "float": float, "long": int, "integer": int}


def _check(name: str, kind: str | None, value: Any) -> None:
    """Raise `ValueError` when *value* does not fit the field's type."""
    for one in value if isinstance(value, list) else [value]:
        if one is None or kind is None:
            continue
        if kind in NUMBERS:
            NUMBERS[kind](one)
        elif kind == "boolean" and one not in (True, False, "true", "false", ""):
            raise ValueError(f"failed to parse field [{name}] of type [boolean]")
        elif kind == "date" and isinstance(one, str):
            datetime.fromisoformat(one)
        elif isinstance(one, dict) and kind in ("keyword", "text"):
            raise ValueError(f"failed to parse field [{name}] of type [{kind}]")


def hit(name: str, stored: Stored, fields: Sequence[str] | None, *, version: bool = False) -> Hit:
    """A document as an answer shows it: *fields* are patterns, None for all; never the vector."""
    source = stored.source if fields is None else {k: v for k, v in stored.source.items() if _matches(k, fields)}
    found = Hit(name, dict(source))
    return replace(found, version=stored.version) if version else found


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) or pattern.startswith(f"{name}.") for pattern in patterns)
