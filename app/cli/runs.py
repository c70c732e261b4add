"""Verbs about runs: `sync`, `watch`, `status`, `runs list|show|cancel|retry|approve`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from app.cli import exits, maintenance, say
from app.cli.follow import follow
from app.cli.verb import Call, verbs
from app.cli.wire import Api
from app.errors import Conflict, Invalid, NotFound

Catalogue = Annotated[str | None, typer.Argument(help="The catalogue; not needed when there is just one.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]
Strategy = Annotated[Literal["auto", "full", "incremental", "repair"], typer.Option(help="How.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the queued run and leave.")]

COLUMNS = (
    *("id", "catalogue", "strategy", "state", "stage"),
    *("counts.loaded", "counts.rejected", "requested_at", "finished_at"),
)

STATUS = (
    *("name", "target.alias", "live.index", "live.documents", "live.live_since"),
    *("held", "last_run.id", "last_run.state"),
    *("lag.pending", "lag.oldest_seconds", "lag.stuck", "lag.failed", "lag.withheld", "paused", "projection"),
)


def add(app: typer.Typer, group: typer.Typer) -> None:
    """Add these verbs to *app*, and those of `runs` to *group*."""
    verbs(app, {"sync": sync, "watch": watch, "status": status})
    verbs(group, {"list": listed, "show": show, "cancel": cancel, "retry": retry, "approve": approve})


async def sync(
    call: Call,
    catalogue: Catalogue = None,
    strategy: Strategy = "auto",
    reason: Annotated[str | None, typer.Option(help="Why; stands on the run.")] = None,
    release: Annotated[bool, typer.Option("--release", help="Release a catalogue that a rollback holds.")] = False,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key again is the same run.")] = None,
    no_wait: NoWait = False,
) -> int:
    """Bring an alias up to date: order a run and watch it until it is over."""
    order = {"catalogue": catalogue, "strategy": strategy, "reason": reason, "release": release or None}
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else None
    async with call.api() as api:
        needs_service(api, no_wait)
        run = await api.post("/sync", {key: value for key, value in order.items() if value is not None}, headers)
        return await _seen_through(call, api, run, no_wait)


async def watch(
    call: Call, subject: Annotated[str | None, typer.Argument(metavar="[RUN|CATALOGUE]", help="Which.")] = None
) -> int:
    """Watch one run, or the active one of a catalogue, until it is over."""
    async with call.api() as api:
        return await _seen_through(call, api, await _subject(api, subject), no_wait=False)


async def _subject(api: Api, subject: str | None) -> Mapping[str, Any]:
    """The run of that id, or the active run of the catalogue of that name (or of any)."""
    if subject:
        try:
            run: Mapping[str, Any] = await api.get(f"/runs/{subject}")
        except NotFound:
            await api.get(f"/catalogues/{subject}")
        else:
            return run
    for state in ("running", "queued"):
        if found := await api.listed("/runs", 1, catalogue=subject, state=state):
            return found[0]
    raise NotFound(f"No run {f'of {subject} ' if subject else ''}is active: see reshelve runs list.")


async def status(call: Call, catalogue: Catalogue = None) -> None:
    """What is live, what ran last, and how far events are behind: waiting, seconds of the oldest, failed, withheld."""
    async with call.api() as api:
        maintenance.told(await api.get("/maintenance"))
        if catalogue:
            found = [await api.get(f"/catalogues/{catalogue}")]
        else:
            names = [item["name"] for item in await api.listed("/catalogues", 1_000)]
            found = [await api.get(f"/catalogues/{name}") for name in names]
    if not found:
        say.words("No catalogue is declared yet: reshelve catalogues apply -f FILE")
    say.items(found, STATUS, call.form)


async def listed(
    call: Call,
    catalogue: Annotated[str | None, typer.Option(help="Only of this one.")] = None,
    state: Annotated[str | None, typer.Option(help="Only in this state.")] = None,
    limit: Limit = 20,
) -> None:
    """List runs, newest first."""
    async with call.api() as api:
        say.items(await api.listed("/runs", limit, catalogue=catalogue, state=state), COLUMNS, call.form)


async def show(
    call: Call,
    run_id: RunId,
    rejects: Annotated[bool, typer.Option("--rejects", help="What it left out, and why.")] = False,
    limit: Limit = 50,
) -> None:
    """Show one run."""
    async with call.api() as api:
        if rejects:
            found = await api.listed(f"/runs/{run_id}/rejects", limit)
            say.items(found, ("product_id", "by", "code", "detail"), call.form)
        else:
            shown(await api.get(f"/runs/{run_id}"), call)


async def cancel(call: Call, run_id: RunId) -> None:
    """Stop a run; its draft is dropped, the alias stays."""
    async with call.api() as api:
        run = await api.post(f"/runs/{run_id}/cancel")
    say.words(f"Run {run['id']} is {run['state']}{'' if run['state'] in exits.OVER else ' and stops'}.")
    say.one(run, facts(run), call.form)


async def retry(call: Call, run_id: RunId, no_wait: NoWait = False) -> int:
    """The same order again, as a new run."""
    async with call.api() as api:
        needs_service(api, no_wait)
        return await _seen_through(call, api, await api.post(f"/runs/{run_id}/retry"), no_wait)


async def approve(
    call: Call,
    run_id: RunId,
    deletions: Annotated[int, typer.Option(min=1, help="How many of the withheld deletions may pass, at most.")],
    no_wait: NoWait = False,
) -> int:
    """The same order again, as a new run that may make deletions which a guard withheld."""
    async with call.api() as api:
        needs_service(api, no_wait)
        run = await api.post(f"/runs/{run_id}/approve", {"deletions": deletions})
        return await _seen_through(call, api, run, no_wait)


def needs_service(api: Api, no_wait: bool) -> None:
    """Raise `Invalid` when nobody would be there to do the run later."""
    if api.own and no_wait:
        raise Invalid("No service is running that could do the run later: start one with `reshelve serve`, or wait.")


async def _seen_through(call: Call, api: Api, run: Mapping[str, Any], no_wait: bool) -> int:
    """Print the run when it is over, or at once; the exit code."""
    if no_wait:
        say.one(run, facts(run), call.form)
        return exits.DONE
    say.words(f"run {run['id']} of {run['catalogue']}")
    over = await follow(api, run["id"])
    shown(over, call)
    return exits.of_run(over)


def shown(run: Mapping[str, Any], call: Call) -> None:
    """A run on stdout, and what went wrong with it on stderr."""
    say.one(run, facts(run), call.form)
    if error := run.get("error"):
        say.words(f"{run['state']}: {error.get('detail', '')} ({error.get('code', '')})", "red")
    for check in (run.get("verdict") or {}).get("checks") or ():
        if not check.get("passed", True):
            expected, found = check.get("expected"), check.get("found")
            say.words(f"  {check.get('check')}: expected {expected}, found {found}. {check.get('detail') or ''}", "red")
    withheld(run)
    if run.get("withheld"):
        most = max(one.get("found") or 0 for one in run["withheld"])
        say.words(f"If they are right: reshelve runs approve {run['id']} --deletions {most}")
    if (run.get("counts") or {}).get("rejected"):
        say.words(f"{run['counts']['rejected']:,} products were left out: reshelve runs show {run['id']} --rejects")


def withheld(thing: Mapping[str, Any]) -> None:
    """What guards withheld of a run or a plan, on stderr."""
    for one in thing.get("withheld") or ():
        told = f"{one.get('found')} deletions are due, {one.get('limit')} are allowed"
        say.words(f"withheld by {one.get('guard')}: {told}", "yellow")


def facts(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a table shows of a run."""
    verdict = run.get("verdict")
    return {
        **{name: run.get(name) for name in ("id", "catalogue", "strategy", "state", "stage", "reason", "generation")},
        **{name: run.get(name) for name in ("requested_at", "started_at", "finished_at")},
        "counts": say.counted(run.get("counts")),
        "seconds": _seconds(run),
        "verdict": ("passed" if verdict.get("passed") else "refused") if verdict else None,
        "error": (run.get("error") or {}).get("code"),
    }


def _seconds(run: Mapping[str, Any]) -> str | None:
    stages = run.get("stages") or []
    return ", ".join(f"{stage['stage']} {stage['seconds']:.1f}" for stage in stages) or None


def active_of(error: Conflict) -> str | None:
    """The id of the run that stood in the way, if that is what the conflict is."""
    run_id = error.extra.get("run_id")
    return str(run_id) if error.code == "active" and run_id else None
