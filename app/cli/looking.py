"""Verbs for looking closer: `compare` two generations, `trace` one product, `monitor` what changed."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer

from app.cli import say
from app.cli.catalogues import only
from app.cli.runs import Catalogue, Limit
from app.cli.verb import Call, verbs
from app.cli.wire import Api
from app.errors import Invalid

PAIR = 2

COPY = (
    *("index", "state", "present", "equals_source", "differs", "has_vector"),
    *("version", "content_hash", "embed_model_version", "updated_at"),
)


def add(app: typer.Typer) -> None:
    """Add these verbs to *app*."""
    verbs(app, {"compare": compare, "trace": trace, "monitor": monitor})


async def _named(api: Api, words: Sequence[str], what: str) -> tuple[str, str]:
    """The catalogue, which need not be named when there is just one, and the other word."""
    if len(words) > PAIR:
        raise Invalid(f"Say at most a catalogue and {what}; quote what has spaces.")
    return (words[0] if len(words) == PAIR else await only(api)), words[-1]


# --- compare ---------------------------------------------------------------------------------------------------------


async def compare(
    call: Call,
    words: Annotated[list[str], typer.Argument(metavar="[CATALOGUE] OTHER", help="OTHER: catalogue or generation.")],
    query: Annotated[list[str] | None, typer.Option("--query", "-q", help="Repeatable; by default its own.")] = None,
    mode: Annotated[Literal["vector", "lexical", "hybrid"], typer.Option(help="How.")] = "vector",
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="How many hits.")] = 10,
) -> None:
    """Put the same queries to what is live and to another catalogue or generation; tell what differs."""
    async with call.api() as api:
        name, other = await _named(api, words, "what to compare it with")
        body = {"with": other, "mode": mode, "k": k, **({"queries": query} if query else {})}
        found = await api.post(f"/catalogues/{name}/compare", body)
    for side in ("left", "right"):
        if why := say.pick(found, f"{side}.degraded_by.detail"):
            say.words(f"{found[side]['index']} was searched by words only: {why}", "yellow")
    if call.form == "json":
        say.one(found, {}, call.form)
    elif call.form == "jsonl":
        say.items(found["queries"], (), call.form)
    else:
        _side_by_side(found)


def _side_by_side(found: Mapping[str, Any]) -> None:
    """Each query with both lists, rank by rank."""
    left, right = (say.pick(found, f"{side}.index") for side in ("left", "right"))
    say.words(
        f"left: {left}, right: {right}; overlap {found['overlap']:.2f} of {len(found['queries'])} queries", "bold"
    )
    for row in found["queries"]:
        say.words(f"“{row['query']}” overlap {row['overlap']:.2f}, moved: {len(row['moved'])}", "bold")
        say.items(_ranks(row["left"], row["right"]), ("rank", "left", "left_name", "right", "right_name"), "table")


def _ranks(left: Sequence[Mapping[str, Any]], right: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for place in range(max(len(left), len(right))):
        row: dict[str, Any] = {"rank": place + 1}
        for side, hits in (("left", left), ("right", right)):
            hit = hits[place] if place < len(hits) else {}
            row |= {side: hit.get("id"), f"{side}_name": hit.get("name")}
        rows.append(row)
    return rows


# --- trace -----------------------------------------------------------------------------------------------------------


async def trace(
    call: Call,
    words: Annotated[list[str], typer.Argument(metavar="[CATALOGUE] PRODUCT", help="The product's id.")],
) -> None:
    """Follow one product from the source to every generation, and say why it is found as it is."""
    async with call.api() as api:
        name, product = await _named(api, words, "a product's id")
        found = await api.get(f"/catalogues/{name}/products/{in_path(product)}")
    say.words(f"{say.pick(found, 'why.code')}: {say.pick(found, 'why.detail')}", "bold")
    say.one(found, traced(found), call.form)
    if call.form == "table":
        say.items(found["generations"], COPY, call.form)


def in_path(product: str) -> str:
    """An id as one part of a path; dots are encoded too, as `..` alone would mean something else."""
    return quote(product, safe="").replace(".", "%2E")


def traced(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a table shows of a trace, but for the generations."""
    paths = {
        "catalogue": "catalogue",
        "product": "product_id",
        "why": "why.code",
        "source": "source.index",
        "in the source": "source.found",
        "left out": "source.reject.detail",
        "content hash": "source.document.content_hash",
        "last change": "last_change.kind",
        "fields": "last_change.fields",
        "at": "last_change.at",
        "by run": "last_change.run",
        "last reject": "last_reject.detail",
        "of run": "last_reject.run",
    }
    return {fact: say.pick(found, path) for fact, path in paths.items()}


# --- monitor ---------------------------------------------------------------------------------------------------------


async def monitor(
    call: Call,
    catalogue: Catalogue = None,
    since: Annotated[str | None, typer.Option(help="A time with its zone: 2026-01-31T00:00:00Z.")] = None,
    product: Annotated[str | None, typer.Option(help="Only this product.")] = None,
    limit: Limit = 50,
) -> None:
    """List what changed, newest first: which product, how, in which fields, by which run."""
    async with call.api() as api:
        name = catalogue or await only(api)
        found = await api.listed(f"/catalogues/{name}/changes", limit, since=since, product_id=product)
    say.items(found, ("at", "kind", "product_id", "fields", "run"), call.form)
