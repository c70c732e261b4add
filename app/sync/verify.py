"""Verification: what is proven of a sealed draft before readers may see it.

Each check compares what should be with what the engine answers for the sealed, refreshed index. The draft is compared
with the point in time it was built from, not with what the run remembers having sent: sampled products are read from
the source again, prepared again and compared with what the target stores.

- `read`, `count`: the run read what the point in time held, and the index holds that less the rejects
- `documents`, `rejects`, `shrink`: there is something, few enough were left out for cause, not suspiciously few stay
- `ids`, `duplicates`, `inputs`: each product that should be there is, once and made of its present input, and no other
- `stamps`: every document has a vector and says which model made it
- `fields`: sampled documents, field by field
- `vector`: stored vectors, bit by bit: a wrong byte order is stored silently and found nowhere else
- `self_test`: every sampled product is found by its own text; equal vectors are ties, and any of them counts
- `queries`, `ndcg`, `recall`: what readers would find now and then, by the catalogue's own queries and judgements
- `health`: green, or why that cannot be had
- `repaired`: what a repair found and mended: missing, without a vector, stale, orphaned
- `analyzer`: said only where the engine lacks the declared one; readers are better served than not at all
"""

from random import sample

from anyio import sleep

from app.sync.proof import SAMPLED, Proof
from app.sync.prove_content import check_fields, check_ids, check_stamps, draw, touched
from app.sync.prove_queries import check_judgements, check_queries
from app.sync.prove_vectors import check_self, check_vectors
from app.sync.words import Verdict

LATE_SECONDS = (0.2, 0.5, 1.0, 2.0)
"""An engine that counts late is asked again after so many seconds each."""


async def verify(proof: Proof) -> Verdict:
    """All checks, also after one failed: the person on call sees everything that is wrong."""
    check_read(proof)
    await check_counts(proof)
    check_rejects(proof)
    check_shrink(proof)
    await draw(proof, await check_ids(proof))
    await check_stamps(proof)
    await check_fields(proof)
    await check_vectors(proof)
    await check_self(proof)
    await check_queries(proof)
    await check_judgements(proof)
    await check_health(proof)
    check_analyzer(proof)
    check_repaired(proof)
    return Verdict(tuple(proof.checks))


async def verify_unchanged(proof: Proof) -> Verdict:
    """The verdict over a clone in which nothing differed: every product was compared, and so it is as good as live.

    Compared by what the documents say of their input; so some are looked at whether they really are what they say.
    """
    check_read(proof)
    check_rejects(proof)
    held, same = len(proof.comparison.held), proof.ports.tally.counts.get("unchanged", 0)
    withheld = proof.comparison.withheld
    why = f"Nothing differs but {withheld} withheld deletions" if withheld else "Nothing differs"
    proof.check("unchanged", held - withheld, same, same == held - withheld, f"{why}: the live generation stays.")
    await draw(proof, sample(proof.comparison.same, min(len(proof.comparison.same), SAMPLED)))
    await check_fields(proof)
    await check_vectors(proof)
    return Verdict(tuple(proof.checks))


# --- counts ----------------------------------------------------------------------------------------------------------


def check_read(proof: Proof) -> None:
    """The run read what the point in time held."""
    read, held = proof.ports.tally.counts.get("read", 0), proof.snapshot.count
    lost = "" if read == held else f"{read} products were read of {held} in the point in time."
    proof.check("read", held, read, read == held, lost)


async def check_counts(proof: Proof) -> None:
    """The index holds what the point in time held, less the rejects, give or take what events told of; a repair may see
    the source move."""
    counts, comparison, held = proof.ports.tally.counts, proof.comparison, proof.snapshot.count
    left_out = counts.get("excluded", 0) + counts.get("rejected", 0)
    wanted = held - left_out + comparison.returned + comparison.withheld
    found, passed = await counted(proof, wanted)
    wrong = "" if passed else f"The index holds {found} documents; {wanted} should be there."
    proof.check("count", wanted, found, passed, wrong)
    empty = "" if found else "Every product was left out: see the rejects."
    proof.check("documents", "at least 1", found, found > 0, empty)


async def counted(proof: Proof, wanted: int) -> tuple[int, bool]:
    """How many documents the draft holds, and whether that is what is *wanted*; asked again where it is not."""
    for seconds in (*LATE_SECONDS, None):
        found = (await proof.target.search_stats(proof.draft.index))["documents"]
        moved = len(proof.comparison.moved) + len(await touched(proof))
        if seconds is None or abs(found - wanted) <= moved:
            break
        await sleep(seconds)
        await proof.target.refresh(proof.draft.index)
    return found, abs(found - wanted) <= moved


def check_rejects(proof: Proof) -> None:
    """Few enough were left out for cause; those left out by rule do not count."""
    counts, limit = proof.ports.tally.counts, proof.plan.spec.policy.max_reject_percent
    percent = 100 * counts.get("rejected", 0) / max(proof.snapshot.count, 1)
    detail = f"{counts.get('rejected', 0)} products were rejected, over max_reject_percent={limit:g}: see the rejects."
    proof.check(
        "rejects", f"at most {limit:g} %", round(percent, 2), percent <= limit, "" if percent <= limit else detail
    )


def check_shrink(proof: Proof) -> None:
    """A catalogue that lost more than both limits of its policy allow, or than was approved, is not promoted."""
    if proof.plan.base is None or proof.plan.builds_on:
        return
    gone, live = lost_of(proof)
    limit, ceiling = proof.plan.spec.policy.shrink, proof.ports.ceiling
    percent = 100 * gone / max(live, 1)
    passed = gone <= max(limit.documents, ceiling or 0) or percent <= limit.percent
    detail = (
        f"{gone} of {live} products are gone ({percent:.1f} %), more than policy.shrink allows "
        f"({limit.documents} and {limit.percent:g} %): look at the source; approve {gone} deletions if this is right."
    )
    approved = f", {ceiling} approved" if ceiling is not None else ""
    allowed = f"at most {limit.documents} or {limit.percent:g} % fewer than {live}{approved}"
    proof.check("shrink", allowed, gone, passed, "" if passed else detail)


def lost_of(proof: Proof) -> tuple[int, int]:
    """How many of how many live products are gone: by their ids; by counts alone where live could not be read."""
    counts, comparison, base = proof.ports.tally.counts, proof.comparison, proof.plan.base
    if comparison.index is not None:
        return counts.get("deleted", 0), len(comparison.held)
    live = (base.documents if base else None) or 0
    return max(live - counts.get("loaded", 0), 0), live


# --- health ----------------------------------------------------------------------------------------------------------


async def check_health(proof: Proof) -> None:
    """Green; yellow where the replicas have no node to go to; red never."""
    replicas, nodes = proof.plan.spec.target.replicas, (await proof.target.about()).data_nodes
    detail = ""
    if proof.health == "yellow":
        detail = (
            f"{nodes} data node(s) cannot hold {replicas} replica(s)."
            if nodes <= replicas
            else "Replicas were not assigned in time."
        )
    proof.check(
        "health",
        "green",
        proof.health,
        proof.health in ("green", "yellow"),
        detail or ("" if proof.health == "green" else "A shard is not assigned."),
    )


def check_analyzer(proof: Proof) -> None:
    """Another analyser than the declared one refuses nothing, and is no secret."""
    declared, used = proof.plan.recipe.analyzer, proof.plan.shape.analyzer
    if used != declared:
        proof.check("analyzer", declared, used, True, f"This engine has no analyser {declared}: {used} took its place.")


def check_repaired(proof: Proof) -> None:
    """What a repair mended refuses nothing either: afterwards it is as it should be, or another check says so."""
    if not proof.plan.repairs:
        return
    counts, bare = proof.ports.tally.counts, len(proof.comparison.unsound)
    missing, orphaned = counts.get("added", 0), counts.get("deleted", 0)
    stale = max(counts.get("modified", 0) - bare, 0)
    told = f"{missing} missing, {stale} stale, {bare} without a vector, {orphaned} orphaned."
    proof.check("repaired", 0, missing + stale + bare + orphaned, True, told)
