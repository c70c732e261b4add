"""What happened, one JSON line each: the writer's changes and notices, the orders; and when, in ms since 1970."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

Line = dict[str, Any]


def now_ms() -> int:
    """The clock of this machine, which is the databases', too."""
    return int(time.time() * 1000)


class Journal:
    """A file that is only added to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")

    def say(self, kind: str, **data: Any) -> None:
        """One line."""
        self._file.write(orjson.dumps({"at": now_ms(), "kind": kind, **data}) + b"\n")

    def lines(self, *kinds: str) -> Iterator[Line]:
        """All lines, or those of some kinds, in order."""
        self._file.flush()
        with self.path.open("rb") as written:
            for raw in written:
                line: Line = orjson.loads(raw)
                if not kinds or line["kind"] in kinds:
                    yield line

    def of_product(self, product_id: str) -> list[Line]:
        """What was done to one product and told of it; of a notice only its own part."""
        found = []
        for line in self.lines("change", "told"):
            if line["kind"] == "change" and line["product"] == product_id:
                found.append(line)
            elif line["kind"] == "told":
                own = [one for one in line["notices"] if one["product_id"] == product_id]
                found += [{**line, "notices": own}] if own else []
        return found

    def close(self) -> None:
        """No more lines."""
        self._file.close()
