/** Draws what happened to products: the latest changes of a catalogue, and one product from the source to every generation. */

import { badge, brief, byId, cell, count, el, fill, moment, row, say } from "./words.js";

const KINDS = { added: "good", modified: "busy", deleted: "bad" };
const WELL = ["current", "not_in_source", "left_out_by_rule"];

/** The newest changes; `follow(id)` is called for the product that somebody wants to see. */
export function drawChanges(changes, follow) {
  const none = row(el("td", { colSpan: 5, className: "quiet" }, "Nothing has changed that is still on record."));
  fill(byId("change-rows"), changes, () => (changes.length ? changes.map((change) => changeRow(change, follow)) : [none]));
}

function changeRow(change, follow) {
  const button = el("button", { type: "button", className: "small", onclick: () => follow(change.product_id), "aria-label": `Trace product ${change.product_id}` }, "Trace");
  return row(
    el("th", { scope: "row" }, change.product_id),
    cell(badge(change.kind, KINDS[change.kind] ?? "calm")),
    cell(brief((change.fields ?? []).join(", ")) || "–"),
    cell(moment(change.at)),
    cell(button));
}

/** `trace` of null: there is nothing to show. */
export function drawTrace(trace) {
  byId("traced").hidden = !trace;
  if (!trace) return;
  const state = byId("trace-code");
  say(state, trace.why.code);
  state.className = `badge ${WELL.includes(trace.why.code) ? "good" : "bad"}`;
  say(byId("trace-detail"), trace.why.detail);
  byId("trace-facts").replaceChildren(...facts(trace).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  byId("trace-rows").replaceChildren(...trace.generations.map(copyRow));
}

function facts(trace) {
  const { source, last_change: change, last_event: event, last_reject: reject } = trace;
  return [
    ["product", trace.product_id],
    ["in the source", source.found === null ? source.trouble?.detail ?? "not known" : yes(source.found)],
    ["left out", source.reject ? `${source.reject.code}: ${source.reject.detail}` : "no"],
    ["last change", change ? el("span", {}, `${change.kind} `, moment(change.at)) : "none on record"],
    ["last event", event ? el("span", {}, `${event.status}${event.reason_code ? ` (${event.reason_code})` : ""} `, moment(event.received_at)) : "none on record"],
    ["last reject", reject ? `${reject.code}: ${brief(reject.detail)}` : "none on record"],
  ];
}

const yes = (value) => (value === null || value === undefined ? "–" : value ? "yes" : "no");

function copyRow(copy) {
  const differs = copy.differs?.length ? ` (${copy.differs.join(", ")})` : "";
  return el("tr", { className: copy.state === "live" ? "is-live" : "" },
    el("th", { scope: "row" }, copy.index),
    cell(copy.state),
    cell(copy.index_missing ? "the index is gone" : yes(copy.present)),
    cell(`${yes(copy.equals_source)}${differs}`),
    cell(yes(copy.has_vector)),
    cell(copy.embed_model_alias ?? "–"),
    cell(copy.version === null || copy.version === undefined ? "–" : count(copy.version), "number"));
}
