"""The verb `plan`: what a run would do, counted and priced, before it does it."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from app.cli import exits, say
from app.cli.follow import follow
from app.cli.runs import Catalogue, Strategy, shown, withheld
from app.cli.verb import Call, verbs
from app.cli.wire import Api
from app.errors import Conflict, Invalid

CHANGES = ("added", "modified", "deleted")

IN_THE_WAY = ("active", "held", "switching")
"""Codes of conflicts with something else that goes on."""


def add(app: typer.Typer) -> None:
    """Add the verb to *app*."""
    verbs(app, {"plan": plan})


async def plan(
    call: Call,
    catalogue: Catalogue = None,
    strategy: Strategy = "auto",
    detailed_exitcode: Annotated[bool, typer.Option("--detailed-exitcode", help="10: there are changes.")] = False,
) -> int:
    """Tell what a run would do, build nothing: counts, texts to embed, money, what guards would withhold."""
    order = {"strategy": strategy, "dry_run": True, **({"catalogue": catalogue} if catalogue else {})}
    async with call.api() as api:
        try:
            answer = await api.post("/sync", order)
        except Invalid as refused:
            if "findings" not in refused.extra:
                raise
            say.problem(refused)
            return exits.FAILED
        except Conflict as ended:
            if ended.code in IN_THE_WAY:
                raise
            say.problem(ended)  # the planning itself came to nothing, soon enough to be this request's answer
            return exits.FAILED
        found = answer if "state" not in answer else await _waited_for(api, answer, call)
    if found is None:
        return exits.FAILED
    _tell(found, call)
    return code_of(found, detailed=detailed_exitcode)


async def _waited_for(api: Api, run: Mapping[str, Any], call: Call) -> Mapping[str, Any] | None:
    """The plan of a dry run that takes longer than the service lets a caller wait; None when it failed."""
    say.words(f"run {run['id']} is planning")
    over = run if run["state"] in exits.OVER else await follow(api, run["id"])
    if over["state"] != "ready" or not over.get("plan"):
        shown(over, call)
        return None
    found: Mapping[str, Any] = over["plan"]
    return found


def _tell(found: Mapping[str, Any], call: Call) -> None:
    say.one(found, facts(found), call.form)
    for finding in found.get("findings") or ():
        say.words(f"  {finding.get('code', '')}: {finding.get('detail', '')}", "red")
    withheld(found)


def facts(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a table shows of a plan."""
    return {
        **{name: found.get(name) for name in ("strategy", "why")},
        "counts": say.counted(found.get("counts")),
        "texts to embed": found.get("texts_to_embed"),
        **{name: found.get(name) for name in ("tokens", "usd", "bytes", "seconds")},
    }


def changes(found: Mapping[str, Any]) -> bool:
    """Whether a run would change what readers see, or build a fresh index."""
    counts = found.get("counts") or {}
    return found.get("strategy") == "full" or any(counts.get(name) for name in CHANGES)


def code_of(found: Mapping[str, Any], *, detailed: bool) -> int:
    """The exit code for a plan: findings before what is withheld, that before changes."""
    if found.get("findings"):
        return exits.FAILED
    if found.get("withheld"):
        return exits.GUARDED
    return exits.CHANGES if detailed and changes(found) else exits.DONE
