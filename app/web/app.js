/**
 * The page: one catalogue at a time, its run, its generations, its recent runs.
 *
 * What is shown comes from plain GETs; the stream says when they are worth repeating. Only a run's `counts` lines are
 * drawn as they come. Every other line is a notice: it is followed by one refresh, and lines that arrive during a
 * refresh are followed by one more. While the stream is not live the page says so and shows no rate and no remaining
 * time; once it is live again everything is fetched anew. So a figure on the page is true, or is marked as old.
 */

import { approve, cancel, choose, earlier, liveOne, rejects, rejectsSeen, release, rollBack, search, start, trace } from "./actions.js";
import { get, part } from "./api.js";
import { drawEvents, drawSwitches, keepLooking } from "./events.js";
import { drawGenerations, drawRuns } from "./lists.js";
import { onProblem, page, refresh, show, soon, speak } from "./page.js";
import { drawWithheld } from "./plan.js";
import { drawChanges, drawTrace } from "./products.js";
import { drawRun, isActive } from "./run.js";
import { Stream } from "./stream.js";
import { byId, clockNow, el, say } from "./words.js";

// --- the stream --------------------------------------------------------------------------------------------------

function heard(line) {
  if (line.kind === "counts" && line.run && line.run === page.run?.id) {
    const { counts, stages, rate, remaining, documents, of } = line.data;
    if (!isActive(page.run)) return;
    Object.assign(page.run, { counts: counts ?? page.run.counts, stages: stages ?? page.run.stages });
    page.live = { run: line.run, rate, remaining, documents, of };
    page.seenAt = clockNow();
    draw();
  } else if (line.kind !== "counts" || !page.runs.some((run) => run.id === line.run)) {
    soon();
  }
}

function changed(state) {
  const before = page.connection;
  page.connection = state;
  if (state === "live" && before !== "live") soon();
  draw();
}

/** Nothing came for a while: look whether the service is there, and whether the stream missed something. */
async function silent() {
  try {
    await refresh();
  } catch {
    page.stream?.reopen();
    return;
  }
  const newest = page.catalogue?.progress;
  if (newest !== undefined && page.stream.last !== null && newest > Number(page.stream.last)) page.stream.reopen();
}

function follow(name) {
  page.stream?.close();
  page.stream = new Stream(`api/v1/catalogues/${part(name)}/stream`, { heard, resync: soon, changed, silent, ready: refresh });
  page.stream.open(page.catalogue?.progress ?? null);
}

// --- drawing -----------------------------------------------------------------------------------------------------

const CONNECTIONS = { connecting: "Connecting", live: "Live", lost: "Connection lost, trying again" };
let spokenOf = null;

function draw() {
  const current = page.connection === "live";
  document.body.dataset.connection = page.connection;
  say(byId("connection"), CONNECTIONS[page.connection]);
  byId("stale").hidden = current || page.connection === "connecting" || !page.run;
  say(byId("stale"), page.seenAt ? `Not current: this is what was known at ${page.seenAt}.` : "");
  say(byId("alias"), page.catalogue ? `alias ${page.catalogue.target?.alias ?? ""}` : "");
  drawRun(page.run, current && isActive(page.run) && page.live?.run === page.run.id ? page.live : null);
  drawGenerations(page.generations);
  drawRuns(page.runs, page.run?.id ?? null, choose);
  drawWithheld(page.run, page.runs.find((run) => run.approves && run.approves === page.run?.id) ?? null);
  drawChanges(page.changes, (id) => trace(null, id));
  drawHold();
  drawSwitches(page.catalogue, page.maintenance);
  drawEvents(page.catalogue);
  drawButtons();
  drawRejectsBox();
  speakOfRun();
}

function drawHold() {
  byId("held").hidden = !page.catalogue?.held;
  say(byId("held-reason"), `No run starts until it is released. ${page.catalogue?.held_reason ?? ""}`.trim());
}

function drawButtons() {
  const known = page.catalogue !== null && !page.busy;
  const may = known && !page.maintenance?.read_only;
  const newest = page.runs[0] ?? null;
  byId("start").disabled = !may || isActive(newest) || (page.catalogue.held && byId("strategy").value !== "plan");
  byId("approve").disabled = !may || page.catalogue.held || isActive(newest);
  byId("cancel").disabled = !known || !isActive(page.run) || Boolean(page.run.cancel_requested);
  byId("release").disabled = !known;
  byId("rollback").disabled = !may || liveOne() === null || earlier().length === 0;
  byId("latest").hidden = page.chosen === null;
}

function drawRejectsBox() {
  const box = byId("rejects");
  const counts = page.run?.counts ?? {};
  const all = (counts.excluded ?? 0) + (counts.rejected ?? 0);
  box.hidden = !all;
  say(byId("rejects-summary"), `Left out: ${counts.excluded ?? 0} by rule, ${counts.rejected ?? 0} by data or engine`);
  if (box.open && all) rejectsSeen(all);
}

/** Screen readers hear each new state and stage of the shown run, and no figures. */
function speakOfRun() {
  const now = page.run && `${page.run.id} ${page.run.state} ${page.run.stage}`;
  if (now === spokenOf) return;
  if (spokenOf !== null && page.run) speak(page.run.state === "running" ? `Run is ${page.run.stage ?? "running"}.` : `Run is ${page.run.state}.`);
  spokenOf = now;
}

// --- the beginning -----------------------------------------------------------------------------------------------

function rememberedName() {
  return new URLSearchParams(location.search).get("catalogue");
}

function remember(name) {
  const url = new URL(location.href);
  url.searchParams.set("catalogue", name);
  history.replaceState(null, "", url);
}

async function open(name) {
  Object.assign(page, { name, catalogue: null, generations: [], runs: [], run: null, changes: [], chosen: null, live: null });
  drawTrace(null);
  byId("hits").replaceChildren();
  say(byId("search-about"), "");
  remember(name);
  draw();
  try {
    await refresh();
  } catch {
    /* shown already; the stream below tries again */
  }
  if (name === page.name) follow(name);
}

async function everyCatalogue() {
  const items = [];
  let cursor = "";
  do {
    const answer = await get(`/catalogues?limit=200${cursor}`);
    items.push(...answer.items);
    cursor = answer.next_cursor ? `&cursor=${encodeURIComponent(answer.next_cursor)}` : null;
  } while (cursor);
  return items;
}

async function begin() {
  const catalogues = await everyCatalogue();
  const picker = byId("catalogue");
  picker.replaceChildren(...catalogues.map(({ name }) => el("option", { value: name }, name)));
  picker.disabled = catalogues.length === 0;
  const none = catalogues.length === 0;
  byId("empty").hidden = !none;
  for (const id of ["run", "events", "generations", "preview", "products", "changes", "runs"]) byId(id).hidden = none;
  if (none) return;
  const wanted = rememberedName();
  picker.value = catalogues.some(({ name }) => name === wanted) ? wanted : catalogues[0].name;
  await open(picker.value);
}

async function beginUntilItWorks() {
  for (let pause = 1_000; ; pause = Math.min(pause * 2, 30_000)) {
    try {
      return await begin();
    } catch (problem) {
      await onProblem(problem);
      if (problem.status !== 401) {
        changed("lost");
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }
}

function listen() {
  byId("catalogue").onchange = (event) => open(event.target.value);
  byId("start").onclick = start;
  byId("strategy").onchange = draw;
  byId("approve").onclick = approve;
  byId("trace").onsubmit = trace;
  byId("cancel").onclick = cancel;
  byId("rollback").onclick = rollBack;
  byId("release").onclick = release;
  byId("latest").onclick = () => choose(page.runs[0]?.id ?? null);
  byId("search").onsubmit = search;
  byId("problem-close").onclick = () => show(null);
  byId("rejects").ontoggle = () => byId("rejects").open && drawRejectsBox();
  byId("more-rejects").onclick = () => rejects(true);
  addEventListener("pagehide", () => page.stream?.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}

async function version() {
  const answer = await fetch("api/version").then((response) => response.json(), () => null).catch(() => null);
  say(byId("version"), answer?.version ? `Reshelve ${answer.version}` : "");
}

page.draw = draw;
listen();
keepLooking();
version();
beginUntilItWorks();
