"""What verbs print: data on stdout as a table, JSON or JSON lines; words for people on stderr.

A table on a terminal fits its width; in a pipe every row is one line, whole. `NO_COLOR` is kept (rich does).
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.errors import Problem

Format = Literal["table", "json", "jsonl"]
Row = Mapping[str, Any]

WIDE = 10_000
"""Columns of a table that nobody looks at on a terminal: no row is broken."""


def words(text: str, style: str = "") -> None:
    """One line for people."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(clean(text), style=style))


def problem(error: Problem) -> None:
    """An error in one line, its findings below; when the line is made of several findings, they are told instead."""
    findings = error.extra.get("findings")
    reasons = findings if isinstance(findings, list) and len(findings) > 1 else []
    words(f"Refused for {len(reasons)} reasons:" if reasons else error.detail, "red")
    for found in error.errors:
        words(f"  {found.get('where', '')}: {found.get('why', '')}")
    for found in reasons:
        words(f"  {found.get('code', '')}: {found.get('detail', '')}")
    if error.extra.get("request_id"):
        words(f"  request id {error.extra['request_id']}", "dim")


def items(rows: Sequence[Row], columns: Sequence[str], form: Format) -> None:
    """A list: *columns* (dotted paths) are what the table shows, JSON has everything."""
    if form == "json":
        _out(json.dumps(rows, indent=2, ensure_ascii=False))
    elif form == "jsonl":
        for row in rows:
            _out(json.dumps(row, ensure_ascii=False))
    else:
        _table([_head(column) for column in columns], [[pick(row, column) for column in columns] for row in rows])


def one(thing: Any, facts: Mapping[str, Any], form: Format) -> None:
    """One thing: *facts* are what the table shows, JSON has everything."""
    if form == "table":
        _table(None, [[name, value] for name, value in facts.items() if value is not None])
    else:
        _out(json.dumps(thing, indent=2 if form == "json" else None, ensure_ascii=False))


def _head(column: str) -> str:
    """The last part of a path, or all of it where that alone would say too little."""
    last = column.rpartition(".")[2]
    return column.replace(".", " ").replace("_", " ") if last in ("id", "state") else last


def pick(row: Row, path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def counted(counts: Row | None) -> str | None:
    """`source 2,000, loaded 1,990`, as far as it is known."""
    known = {name: value for name, value in (counts or {}).items() if value is not None}
    return ", ".join(f"{name} {value:,}" for name, value in known.items()) or None


def clean(text: str) -> str:
    """Without control characters: what a product is called must not move a terminal's cursor."""
    return "".join(char if char.isprintable() else " " for char in text)


def _out(text: str) -> None:
    """Unpaired surrogates, which JSON may hold and UTF-8 may not, are replaced."""
    sys.stdout.write(text.encode("utf-8", "replace").decode() + "\n")


def _table(heads: Sequence[str] | None, rows: Sequence[Sequence[Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD if heads else None, show_header=heads is not None, pad_edge=False)
    for head in heads or ("", ""):
        table.add_column(head, no_wrap=not sys.stdout.isatty(), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
    with console.capture() as drawn:
        console.print(table)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in drawn.get().splitlines() if line.strip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return str(round(value, 4))
    if isinstance(value, list):
        return clean(", ".join(map(str, value))) or "-"
    return clean(str(value))
