/** Draws what a run meant to do beside what it did, and the deletions that it withheld. */

import { between, byId, bytes, cell, count, el, fill, money, row, say, seconds } from "./words.js";

const COUNTS = ["added", "modified", "deleted", "unchanged", "excluded", "rejected"];

export function drawPlan(run) {
  const plan = run?.plan ?? null;
  say(byId("run-why"), plan?.why ? `${plan.strategy}: ${plan.why}` : "");
  byId("plan").hidden = !plan;
  if (!plan) return;
  say(byId("plan-summary"), run.dry_run ? "The plan: nothing was written" : "The plan and what came of it");
  const rows = figures(plan, run);
  fill(byId("plan-rows"), [run.id, rows], () => rows.map((cells) => planRow(...cells)));
}

const planRow = (name, planned, actual) => row(el("th", { scope: "row" }, name), cell(planned, "number"), cell(actual, "number"));

/** Name, planned, actual; a dry run has done nothing to compare with. */
function figures(plan, run) {
  const real = run.dry_run ? {} : run;
  const foreseen = plan.counts ?? {};
  const found = real.counts ?? {};
  return [
    ["products", count(foreseen.source), count(found.source)],
    ...COUNTS.map((name) => [name, count(foreseen[name]), count(found[name])]),
    ["texts to embed", count(plan.texts_to_embed), count(found.embedded)],
    ["tokens", count(plan.tokens), count(real.cost?.tokens)],
    ["cost", money(plan.usd), money(real.cost?.usd)],
    ["to be written", bytes(plan.bytes), "–"],
    ["time", seconds(plan.seconds), seconds(between(real.started_at, real.finished_at))],
  ];
}

/** How many deletions somebody may approve of: withheld by the run, or by its verdict as a shrink; 0 for none. */
export function withheldBy(run) {
  if (!run) return 0;
  const shrink = (run.verdict?.checks ?? []).find((check) => check.check === "shrink" && !check.passed);
  return shrink ? Number(shrink.found) || 0 : sum(run.withheld);
}

const sum = (withheld) => (withheld ?? []).reduce((all, one) => all + one.found, 0);

/** `next` is the run that came of an approval of this one, null when nobody approved. */
export function drawWithheld(run, next) {
  const found = withheldBy(run);
  const foreseen = run?.dry_run ? sum(run.plan?.withheld) : 0;
  byId("withheld").hidden = !found && !foreseen;
  const approved = next ? ` Approved: run ${next.id} may make ${count(next.ceiling)} of them.` : "";
  const why = "More products are gone from the source than policy.shrink allows.";
  say(byId("withheld-title"), foreseen ? `${count(foreseen)} deletions would be withheld` : `${count(found)} deletions are withheld`);
  say(byId("withheld-text"), foreseen ? `${why} A run would carry the rest, and wait for an approval of these.` : `${why} Look at the source first.${approved}`);
  byId("approve").hidden = !found || Boolean(next);
  say(byId("approve"), `Approve ${count(found)} deletions`);
}
