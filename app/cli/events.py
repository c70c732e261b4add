"""Verbs about events: `events send|list|replay|drop`.

`send` cuts what it is given into requests of `MOST` events, each answered before the next goes out. What the service
has no room for now goes out again when it says. An event is a notice, and one that comes twice does no harm: a `send`
that broke off may simply be repeated.
"""

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, Literal

import anyio
import typer
from anyio import to_thread

from app.cli import exits, say
from app.cli.catalogues import Name, only
from app.cli.runs import Catalogue, Limit
from app.cli.verb import Call, verbs
from app.cli.wire import RETRY_AFTER, Api
from app.errors import Invalid, Problem, TooMuch, Unavailable
from app.notices import MOST

PATIENCE_SECONDS = 600.0
"""How long one request is sent again while the service has no room for it."""

STDIN = "-"

COLUMNS = (
    *("seq", "product_id", "action", "lane", "status", "attempts", "reason_code"),
    *("received_at", "next_retry_at", "done_at", "detail"),
)

Event = dict[str, Any]
Reason = Annotated[str, typer.Option(help="Why; audited.")]
Most = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most, the oldest first.")]
Code = Annotated[str | None, typer.Option("--reason-code", help="Only those that failed for this reason.")]


def add(group: typer.Typer) -> None:
    """Add these verbs to *group*."""
    verbs(group, {"send": send, "list": listed, "replay": replay, "drop": drop})


# --- send ------------------------------------------------------------------------------------------------------------


async def send(
    call: Call,
    name: Name,
    products: Annotated[list[str], typer.Argument(metavar="ID...", help="- reads ids or JSON lines from stdin.")],
    delete: Annotated[bool, typer.Option("--delete", help="They are gone; the source is asked all the same.")] = False,
    priority: Annotated[
        bool, typer.Option("--priority", help="Before others; deletions are so by themselves.")
    ] = False,
    not_before: Annotated[str | None, typer.Option(help="Readable then: 2026-01-31T00:00:00Z.")] = None,
    key: Annotated[
        str | None, typer.Option("--id", help="The same again is dropped; of several, --id:1, --id:2.")
    ] = None,
) -> None:
    """Tell that products changed; each is read again and brought into every generation that is kept up to date."""
    said = {"action": "delete" if delete else None, "priority": priority or None, "not_before": not_before}
    told = named(events_of(products, {field: value for field, value in said.items() if value is not None}), key)
    total = Counter(accepted=0, coalesced=0, duplicates=0)
    async with call.api() as api:
        try:
            async for some in _portions(told):
                total.update(await _accepted(api, name, some))
        except Problem:
            if total["accepted"]:
                say.words(f"{total['accepted']:,} events were accepted until then.")
            raise
        if api.own:
            say.words("No service is running: they are applied when one is.")
    say.one(total, total, call.form)


def events_of(products: Iterable[str], like: Event) -> Iterator[Event]:
    """An event for each product, and for each line of stdin where that is named; *like* has what they do not say."""
    for one in products:
        if one == STDIN:
            yield from ({**like, **event} for event in _lines(sys.stdin))
        else:
            yield {**like, "product_id": one}


def _lines(stdin: Iterable[str]) -> Iterator[Event]:
    try:
        for number, line in enumerate(stdin, 1):
            if text := line.strip():
                yield _parsed(text, number) if text.startswith("{") else {"product_id": text}
    except UnicodeDecodeError:
        raise Invalid("What comes from stdin is not UTF-8.") from None


def _parsed(text: str, number: int) -> Event:
    try:
        event: Event = json.loads(text)
    except ValueError:
        raise Invalid(f"Line {number} of stdin begins like JSON and is none.") from None
    return event


def named(told: Iterable[Event], key: str | None) -> Iterator[Event]:
    """The same events, each with an `id` made of *key* and its place, unless it has one of its own."""
    for place, event in enumerate(told):
        yield event if key is None else {"id": f"{key}:{place}" if place else key, **event}


async def _portions(told: Iterator[Event]) -> AsyncIterator[Sequence[Event]]:
    """As many as fit into a request; stdin is read in a thread, as it may take its time."""
    while some := await to_thread.run_sync(lambda: list(islice(told, MOST)), abandon_on_cancel=True):
        yield some


async def _accepted(api: Api, name: str, some: Sequence[Event]) -> Mapping[str, int]:
    """The answer to one request, which goes out again for as long as the service says when."""
    deadline = anyio.current_time() + PATIENCE_SECONDS
    while True:
        try:
            answer: Mapping[str, int] = await api.post(f"/catalogues/{name}/events", {"events": some})
        except (TooMuch, Unavailable) as busy:
            seconds = asked_for(busy)
            if seconds is None or anyio.current_time() + seconds > deadline:
                raise
            say.words(f"{busy.detail} Trying again in {seconds:g} s.", "yellow")
            await anyio.sleep(seconds)
        else:
            return answer


def asked_for(busy: Problem) -> float | None:
    """How many seconds the service wants us to wait; None when it does not say."""
    told = busy.headers.get(RETRY_AFTER, "")
    return float(told) if told.isdecimal() else None


# --- look ------------------------------------------------------------------------------------------------------------


async def listed(
    call: Call,
    catalogue: Catalogue = None,
    status: Annotated[Literal["pending", "processing", "done", "failed"] | None, typer.Option(help="Only so.")] = None,
    product: Annotated[str | None, typer.Option(help="Only of this product.")] = None,
    limit: Limit = 50,
) -> None:
    """List events, newest first: what became of each, and when it is tried again."""
    async with call.api() as api:
        name = catalogue or await only(api)
        found = await api.listed(f"/catalogues/{name}/events", limit, status=status, product_id=product)
    say.items(found, COLUMNS, call.form)


# --- replay, drop ----------------------------------------------------------------------------------------------------


async def replay(
    call: Call,
    reason: Reason,
    catalogue: Catalogue = None,
    limit: Most = MOST,
    reason_code: Code = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
) -> None:
    """Let failed events wait again, oldest first."""
    await _done(call, catalogue, "replay", reason=reason, limit=limit, reason_code=reason_code, dry_run=dry_run)


async def drop(
    call: Call,
    reason: Reason,
    catalogue: Catalogue = None,
    limit: Most = MOST,
    reason_code: Code = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, they are only counted.")] = False,
) -> int:
    """Remove failed events for good, oldest first; what they told of is lost until a run comes by."""
    counts = dry_run or not yes
    done = await _done(call, catalogue, "drop", reason=reason, limit=limit, reason_code=reason_code, dry_run=counts)
    if dry_run or yes:
        return exits.DONE
    say.words(f"{done['dropped']:,} failed events would be dropped for good: add --yes to do it.", "yellow")
    return exits.USAGE


async def _done(call: Call, catalogue: str | None, act: str, **wanted: Any) -> Any:
    """What became of the failed events that are *wanted*; shown, too."""
    async with call.api() as api:
        done = await api.post(f"/catalogues/{catalogue or await only(api)}/events/{act}", wanted)
    say.one(done, done, call.form)
    return done
