/** What the buttons do: each act is one request, said aloud when it is done, shown when it went wrong. */

import { freshKey, get, part, post } from "./api.js";
import { confirmed } from "./dialogs.js";
import { drawHits, drawRejects } from "./lists.js";
import { act, onProblem, page, show, soon, speak } from "./page.js";
import { withheldBy } from "./plan.js";
import { drawTrace } from "./products.js";
import { byId, count, el, momentText, say } from "./words.js";

const REJECTS = 50;
const left = { run: null, items: [], cursor: null };

export function start() {
  const choice = byId("strategy").value;
  const order = { catalogue: page.name, strategy: choice === "plan" ? "auto" : choice, reason: "started from the page" };
  page.chosen = null;
  if (choice === "plan") return planOnly({ ...order, dry_run: true });
  return act(async () => {
    const run = await post("/sync", order, { "Idempotency-Key": freshKey() });
    speak(`Run requested, ${run.state}.`);
  });
}

/** Its answer is waited for without holding the other buttons: it comes when the plan is made, and may be canceled. */
async function planOnly(order) {
  show(null);
  try {
    await post("/sync", order, { "Idempotency-Key": freshKey() });
  } catch (problem) {
    await onProblem(problem);
  }
  soon();
}

/** As many deletions as somebody says, of those that the shown run withheld. */
export async function approve() {
  const run = page.run;
  const field = el("input", { type: "number", min: 1, step: 1, required: true, value: withheldBy(run) });
  const body = el("label", {}, "Deletions at most ", field);
  const text = `Run ${run.id} withheld ${count(withheldBy(run))} deletions. A new run looks at the source afresh and may make so many; if more are gone by then, it withholds them again.`;
  if (!(await confirmed("Approve deletions?", text, { body, yes: "Approve and run" }))) return;
  await act(async () => {
    const next = await post(`/runs/${part(run.id)}/approve`, { deletions: field.valueAsNumber });
    page.chosen = null;
    speak(`Approved: run ${next.id} is ${next.state}.`);
  });
}

export async function cancel() {
  const run = page.run;
  if (!(await confirmed("Cancel this run?", "What it has built so far is dropped. Readers keep what is live now.", { yes: "Cancel the run" }))) return;
  await act(async () => {
    await post(`/runs/${part(run.id)}/cancel`);
    speak("Cancel requested.");
  });
}

export const liveOne = () => page.generations.find((generation) => generation.state === "live") ?? null;
export const earlier = () => page.generations.filter((generation) => generation.state === "retired");

/** The one before the live one comes first: the newest of those created before it, else the newest of all. */
function candidates(live) {
  const before = earlier().filter((generation) => generation.created_at < live.created_at);
  return [...before, ...earlier().filter((generation) => !before.includes(generation))];
}

export async function rollBack() {
  const live = liveOne();
  const choices = candidates(live);
  const select = el("select", {}, ...choices.map((generation) => el("option", { value: generation.id }, `${generation.index}, live since ${momentText(generation.live_since)}`)));
  const warning = el("p", { className: "warn-text" });
  const target = () => choices.find((generation) => generation.id === select.value);
  const warn = () => say(warning, target().stale_since ? `It is no longer fed: changes since ${momentText(target().stale_since)} are missing in it.` : "");
  select.onchange = warn;
  warn();
  const body = el("div", {}, el("p", { className: "move" }, "From ", el("strong", {}, live.index)), el("label", {}, "To ", select), warning);
  const text = "Readers see the older generation at once. The catalogue is then held: no run starts until somebody releases it.";
  if (!(await confirmed("Roll back?", text, { body, yes: "Roll back" }))) return;
  await act(async () => {
    const to = target();
    const done = await post(`/catalogues/${part(page.name)}/rollback`, { to: to.id, stale: Boolean(to.stale_since) });
    speak(`Rolled back to ${to.index}.`);
    return done;
  });
}

export function release() {
  return act(async () => {
    await post(`/catalogues/${part(page.name)}/release`);
    speak("Released: runs may start again.");
  });
}

export function search(event) {
  event.preventDefault();
  const query = byId("query").value.trim();
  if (!query) return;
  const name = page.name;
  say(byId("search-about"), "Searching");
  act(async () => {
    try {
      const answer = await post(`/catalogues/${part(name)}/search`, { query, mode: byId("mode").value, k: 10 });
      if (name === page.name) drawHits(answer, query);
    } catch (problem) {
      say(byId("search-about"), "");
      throw problem;
    }
  });
}

/** Follow the product that the form names, or `id`. */
export function trace(event, id = null) {
  event?.preventDefault();
  if (id !== null) byId("product").value = id;
  const product = byId("product").value.trim();
  if (!product) return;
  const name = page.name;
  drawTrace(null);
  act(async () => {
    const found = await get(`/catalogues/${part(name)}/products/${part(product)}`);
    if (name === page.name) drawTrace(found);
    if (id !== null) byId("product").focus();
  });
}

export function choose(id) {
  page.chosen = id === page.runs[0]?.id ? null : id;
  page.live = null;
  soon();
  byId("run").focus();
}

/** Load the rejects of the shown run, or more of them. */
export async function rejects(more = false) {
  const id = page.run.id;
  if (!more) Object.assign(left, { run: id, items: [], cursor: null });
  const cursor = left.cursor ? `&cursor=${encodeURIComponent(left.cursor)}` : "";
  try {
    const answer = await get(`/runs/${part(id)}/rejects?limit=${REJECTS}${cursor}`);
    if (left.run !== id) return;
    Object.assign(left, { items: [...left.items, ...answer.items], cursor: answer.next_cursor });
    drawRejects(id, left.items, Boolean(left.cursor));
  } catch (problem) {
    left.run = null;
    await onProblem(problem);
  }
}

/** Load them once they are looked at: when `all` of the shown run differ from what is there. */
export function rejectsSeen(all) {
  const key = `${page.run.id} ${all}`;
  if (left.key === key) return;
  left.key = key;
  rejects();
}
