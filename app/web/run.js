/** Draws one run: where it is, what it has done, what its verdict says. Draws only what changed. */

import { drawPlan } from "./plan.js";
import { badge, between, brief, byId, bytes, cell, count, el, fill, moment, money, row, say, seconds } from "./words.js";

const STAGES = ["planning", "filling", "sealing", "verifying", "promoting", "cleaning"];
const MAIN_COUNTS = ["read", "added", "modified", "deleted", "unchanged", "embedded", "reused", "loaded", "excluded", "rejected"];
const OTHER_COUNTS = ["truncated"];
const TONES = { queued: "calm", running: "busy", ready: "good", failed: "bad", canceled: "calm" };

export const isActive = (run) => Boolean(run) && (run.state === "queued" || run.state === "running");
export const stateBadge = (state) => badge(state, TONES[state] ?? "calm");
export const took = (run) => between(run.started_at, run.finished_at);

/** Draw `run`, or that there is none. `live` are the figures of its last counts line, null when they are not current. */
export function drawRun(run, live) {
  drawHead(run);
  drawStages(run);
  drawProgress(run, live);
  drawPlan(run);
  drawCounts(run);
  drawError(run);
  drawVerdict(run);
  drawSteps(run);
}

function drawHead(run) {
  const state = byId("run-state");
  say(state, run ? run.state : "none yet");
  state.className = `badge ${run ? TONES[run.state] ?? "calm" : "calm"}`;
  const facts = run && [run.id, run.strategy, run.requested_by, run.trigger, run.requested_at, run.finished_at, run.dry_run, run.reason, run.cancel_requested && isActive(run)];
  fill(byId("run-about"), facts, () => (run ? about(run) : ["Nothing has run for this catalogue."]));
}

function about(run) {
  const whole = took(run);
  return [
    `${run.strategy ?? ""}${run.dry_run ? " (dry run)" : ""}, asked for by ${run.requested_by ?? "somebody"} on `,
    moment(run.requested_at),
    whole === null ? "" : `, took ${seconds(whole)}`,
    run.reason ? `, “${run.reason}”` : "",
    run.cancel_requested && isActive(run) ? ", to be canceled" : "",
    el("span", { className: "id" }, ` ${run.id}`),
  ];
}

function drawStages(run) {
  const figures = Object.fromEntries((run?.stages ?? []).map((stage) => [stage.stage, stage]));
  const items = STAGES.map((stage) => ({ stage, seconds: figures[stage]?.seconds ?? null, mark: markOf(run, stage, figures) }));
  fill(byId("stages"), items, () => items.map(stageItem));
}

function markOf(run, stage, figures) {
  if (!run) return "ahead";
  if (run.state === "running" && run.stage === stage) return "now";
  if ((run.state === "failed" || run.state === "canceled") && run.stage === stage) return "broken";
  if (run.state === "ready") return figures[stage] ? "done" : "ahead";
  return run.stage && STAGES.indexOf(stage) < STAGES.indexOf(run.stage) ? "done" : "ahead";
}

const SPOKEN = { done: "done", now: "under way", broken: "ended here", ahead: "" };

function stageItem({ stage, seconds: spent, mark }) {
  const props = { className: mark };
  if (mark === "now") props["aria-current"] = "step";
  const spoken = SPOKEN[mark] ? el("span", { className: "unseen" }, ` ${SPOKEN[mark]}`) : null;
  return el("li", props, el("span", { className: "name" }, stage), spoken, el("span", { className: "spent" }, spent === null ? "" : seconds(spent)));
}

function drawProgress(run, live) {
  const shown = Boolean(run) && run.state !== "queued";
  byId("progress").hidden = !shown;
  if (!shown) return;
  const of = live?.of ?? run.counts?.source ?? null;
  const done = furthest(run, throughOf(run, live));
  const bar = byId("bar");
  bar.max = of || 1;
  if (of === null && isActive(run)) bar.removeAttribute("value");
  else bar.value = of === 0 ? 1 : Math.min(done, bar.max);
  say(byId("progress-text"), of === null ? `${count(done)} products through` : `${count(done)} of ${count(of)} products through`);
  say(byId("rate"), live?.rate ? `${count(Math.round(live.rate))} documents a second` : "");
  say(byId("remaining"), live?.remaining ? `about ${seconds(live.remaining)} left` : "");
}

/** Products that are through: loaded, left out, or held as they are. The last counts line knows best; a plan only reads. */
function throughOf(run, live) {
  const counts = run.counts ?? {};
  const read = counts.read ?? 0;
  if (run.dry_run || run.state === "ready") return read;
  if (live?.documents !== null && live?.documents !== undefined) return live.documents;
  const held = run.strategy === "full" ? 0 : counts.unchanged ?? 0;
  return Math.min((counts.loaded ?? 0) + (counts.excluded ?? 0) + (counts.rejected ?? 0) + held, read);
}

let reached = { key: null, done: 0 };

/** A line that comes late, or a GET that was answered early, takes nothing back; a run that began anew does. */
function furthest(run, done) {
  const key = `${run.id} ${run.strategy}`;
  reached = { key, done: reached.key === key ? Math.max(reached.done, done) : done };
  return reached.done;
}

function drawCounts(run) {
  const counts = run?.counts ?? {};
  const others = OTHER_COUNTS.filter((name) => counts[name]);
  const names = run ? [...MAIN_COUNTS, ...others] : [];
  const facts = names.map((name) => [name, counts[name] ?? null]);
  const tiles = facts.map(([name, value]) => [name, count(value)]);
  if (run?.cost?.tokens) tiles.push(["tokens", count(run.cost.tokens)], ["cost", money(run.cost.usd)]);
  fill(byId("counts"), tiles, () => tiles.map(([name, value]) => el("div", { className: name }, el("dt", {}, name), el("dd", {}, value))));
}

function drawError(run) {
  const error = run?.error ?? null;
  byId("run-error").hidden = !error;
  say(byId("run-error-code"), error?.code ?? "");
  say(byId("run-error-detail"), error?.detail ?? "");
}

function drawVerdict(run) {
  const verdict = run?.verdict ?? null;
  const box = byId("verdict");
  box.hidden = !verdict;
  if (!verdict) return;
  const checks = verdict.checks ?? [];
  const failed = checks.filter((check) => !check.passed).length;
  say(byId("verdict-summary"), failed || !verdict.passed ? `Verdict: refused, ${failed} of ${checks.length} checks failed` : `Verdict: passed, ${checks.length} checks`);
  fill(byId("checks"), [run.id, checks], () => checks.map(checkRow));
  if (failed && box.dataset.opened !== run.id) {
    box.open = true;
    box.dataset.opened = run.id;
  }
}

function checkRow(check) {
  const result = check.passed ? badge("pass", "good") : badge("fail", "bad");
  return row(el("th", { scope: "row" }, check.check), cell(result), cell(brief(check.expected)), cell(brief(check.found)), cell(check.detail || "", "wide"));
}

function drawSteps(run) {
  const stages = run?.stages ?? [];
  byId("steps").hidden = stages.length === 0;
  fill(byId("step-rows"), stages, () => stages.flatMap((stage) => [stepRow(stage.stage, stage, "stage"), ...stepsOf(stage)]));
}

function stepsOf(stage) {
  return Object.entries(stage.steps ?? {}).map(([name, figures]) => stepRow(name, figures, "step"));
}

function stepRow(name, figures, className) {
  const errors = Object.entries(figures.errors ?? {}).filter(([, found]) => found);
  return el("tr", { className },
    el("th", { scope: "row" }, name),
    cell(seconds(figures.seconds), "number"),
    cell(figures.documents ? count(figures.documents) : "–", "number"),
    cell(bytes(figures.bytes), "number"),
    cell(count(figures.retries), "number"),
    cell(errors.map(([origin, found]) => `${origin} ${count(found)}`).join(", ") || "none"));
}
