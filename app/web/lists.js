/** Draws the lists: generations, runs, rejects, hits. Names and texts in them are other people's: text only. */

import { badge, brief, byId, cell, count, el, fill, moment, row, say, seconds } from "./words.js";
import { stateBadge, took } from "./run.js";

const STATE_TONES = { live: "good", draft: "busy", sealed: "busy", refused: "bad" };

export function drawGenerations(generations) {
  fill(byId("generation-rows"), generations, () => generations.length ? generations.map(generationRow) : [nothing(6, "No generation yet: the first sync makes one.")]);
}

const nothing = (columns, text) => row(el("td", { colSpan: columns, className: "quiet" }, text));

function generationRow(generation) {
  const model = generation.embedder;
  const foreign = generation.origin === "foreign" ? " (not ours)" : "";
  const since = generation.stale_since ? el("span", {}, moment(generation.live_since), el("small", {}, " no longer fed")) : moment(generation.live_since);
  return el("tr", { className: generation.state === "live" ? "is-live" : "" },
    el("th", { scope: "row" }, generation.index, foreign),
    cell(badge(generation.state, STATE_TONES[generation.state] ?? "calm")),
    cell(count(generation.documents), "number"),
    cell(model ? `${model.name ?? "?"}${model.dims ? `, ${model.dims} dims` : ""}` : "–"),
    cell(moment(generation.created_at)),
    cell(since));
}

/** The newest runs; `show(id)` is called for the one that somebody wants to see. */
export function drawRuns(runs, shownId, show) {
  const facts = [shownId, ...runs.map((run) => [run.id, run.state, run.counts?.loaded, run.finished_at])];
  fill(byId("run-rows"), facts, () => runs.length ? runs.map((run) => runRow(run, run.id === shownId, show)) : [nothing(7, "No run yet.")]);
}

function runRow(run, isShown, show) {
  const button = el("button", { type: "button", className: "small", disabled: isShown, onclick: () => show(run.id), "aria-label": `Show run ${run.id}` }, isShown ? "Shown" : "Show");
  return row(
    cell(moment(run.requested_at)),
    cell(el("span", {}, stateBadge(run.state), run.error ? el("small", {}, ` ${run.error.code}`) : null)),
    cell(`${run.strategy}${run.dry_run ? " (dry run)" : ""}`),
    cell(`${run.requested_by} (${run.trigger})`),
    cell(count(run.counts?.loaded), "number"),
    cell(seconds(took(run)), "number"),
    cell(button));
}

export function drawRejects(runId, rejects, hasMore) {
  fill(byId("reject-rows"), [runId, rejects.length], () => rejects.length ? rejects.map(rejectRow) : [nothing(4, "Nothing was left out.")]);
  byId("more-rejects").hidden = !hasMore;
}

const rejectRow = (reject) => row(el("th", { scope: "row" }, reject.product_id), cell(reject.by), cell(reject.code), cell(brief(reject.detail), "wide"));

export function drawHits(answer, query) {
  const hits = answer.hits ?? [];
  const weaker = answer.degraded ? `, answered in a weaker way${typeof answer.degraded === "string" ? `: ${answer.degraded}` : ""}` : "";
  const off = answer.projection === "off" ? ", as the projection is off" : "";
  say(byId("search-about"), `${hits.length} ${hits.length === 1 ? "hit" : "hits"} for “${query}” (${answer.mode}${weaker}${off})`);
  byId("hits").replaceChildren(...hits.map(hitItem));
}

function hitItem(hit) {
  const document = hit.document ?? {};
  const [first, ...rest] = String(document.text ?? "").split("\n");
  const name = firstOf(document.name) || first || hit.id;
  const text = (name === first ? rest.join(" ") : String(document.text ?? "")).slice(0, 240);
  return el("li", {},
    el("p", {}, el("strong", {}, name), el("span", { className: "quiet" }, ` ${firstOf(document.sku) || hit.id}, score ${Number(hit.score ?? 0).toFixed(3)}`)),
    text ? el("p", { className: "quiet" }, text) : null);
}

function firstOf(value) {
  return Array.isArray(value) ? String(value[0] ?? "") : value === null || value === undefined ? "" : String(value);
}
