/**
 * What the page knows, how it gets to know it, and how it says what went wrong.
 *
 * What is shown comes from plain GETs (`refresh`); the stream says when they are worth repeating. A refresh that finds
 * nobody makes the connection count as lost: what is shown is then marked as old, not silently kept.
 */

import { get, part, Problem } from "./api.js";
import { login } from "./dialogs.js";
import { byId, clockNow, el, say } from "./words.js";

const RUNS = 10;
const GENERATIONS = 100;
const CHANGES = 10;
const OUT_OF_REACH = [0, 502, 503, 504];

/** `chosen` is the run that somebody picked, null for the latest; `live` the figures of its last counts line. */
export const page = {
  name: null, catalogue: null, maintenance: null, generations: [], runs: [], run: null, changes: [],
  chosen: null, live: null, connection: "connecting", seenAt: null, busy: false,
  stream: null, draw: () => {},
};

/** Everything that is shown of the catalogue; throws a Problem. A change of catalogue meanwhile makes it void. */
async function load() {
  const name = page.name;
  const [catalogue, generations, runs, changes, maintenance] = await Promise.all([
    get(`/catalogues/${part(name)}`),
    get(`/catalogues/${part(name)}/generations?limit=${GENERATIONS}`),
    get(`/runs?catalogue=${part(name)}&limit=${RUNS}`),
    get(`/catalogues/${part(name)}/changes?limit=${CHANGES}`),
    get("/maintenance"),
  ]);
  const id = page.chosen ?? runs.items[0]?.id ?? null;
  const run = id === null ? null : await get(`/runs/${part(id)}`);
  if (name !== page.name) return;
  if (page.live && page.live.run !== run?.id) page.live = null;
  Object.assign(page, { catalogue, maintenance, generations: kept(generations.items, catalogue.live), runs: runs.items, run, changes: changes.items, seenAt: clockNow() });
  page.draw();
}

/** The generations that are still there; the live one always, even behind many that were dropped. */
function kept(generations, live) {
  const there = generations.filter((generation) => generation.state !== "dropped");
  return live && !there.some((generation) => generation.id === live.id) ? [...there, live] : there;
}

let loading = null;
let again = false;

/** Load once more; calls that come meanwhile share one further load. Problems are shown, and thrown. */
export function refresh() {
  if (loading) {
    again = true;
    return loading;
  }
  loading = attempt().finally(() => {
    loading = null;
    if (again) {
      again = false;
      refresh().catch(() => {});
    }
  });
  return loading;
}

async function attempt() {
  try {
    await load();
    if (OUT_OF_REACH.includes(shownProblem?.status)) show(null);
  } catch (problem) {
    if (!OUT_OF_REACH.includes(problem.status)) await onProblem(problem);
    else if (page.connection === "live") page.stream?.reopen();
    throw problem;
  }
}

export const soon = () => refresh().catch(() => {});

let shownProblem = null;

/** Ask for a token, or say what went wrong. */
export async function onProblem(problem) {
  if (!(problem instanceof Problem)) throw problem;
  if (problem.status === 401) return login();
  show(problem);
}

export function show(problem) {
  shownProblem = problem;
  byId("problem").hidden = problem === null;
  if (problem === null) return;
  say(byId("problem-title"), problem.title);
  say(byId("problem-detail"), problem.detail);
  byId("problem-errors").replaceChildren(...problem.errors.map((error) => el("li", {}, `${error.where ?? error.code ?? ""}: ${error.why ?? error.detail ?? ""}`)));
  say(byId("problem-id"), problem.requestId ? `Request ${problem.requestId}` : "");
}

/** Do what a button says, once at a time; what goes wrong is shown, and afterwards the page is fetched anew. */
export async function act(what) {
  if (page.busy) return;
  page.busy = true;
  show(null);
  page.draw();
  try {
    await what();
  } catch (problem) {
    await onProblem(problem);
  } finally {
    page.busy = false;
    page.draw();
    soon();
  }
}

export const speak = (text) => say(byId("spoken"), text);
