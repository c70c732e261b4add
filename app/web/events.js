/**
 * Draws how far events are behind, and what is switched off.
 *
 * No line of the stream tells of single events, so these figures are asked for every few seconds while the page is
 * looked at and the stream is live; else they are as old as everything else, and the page says so.
 */

import { get, part } from "./api.js";
import { page } from "./page.js";
import { byId, count, el, fill, say, seconds } from "./words.js";

const LOOK_MS = 5_000;

export function keepLooking() {
  setInterval(look, LOOK_MS);
}

async function look() {
  const name = page.name;
  if (document.hidden || page.connection !== "live" || !page.catalogue) return;
  try {
    const [{ lag, paused, projection }, maintenance] = await Promise.all([get(`/catalogues/${part(name)}`), get("/maintenance")]);
    if (name !== page.name || !page.catalogue) return;
    Object.assign(page.catalogue, { lag, paused, projection });
    page.maintenance = maintenance;
    page.draw();
  } catch {
    /* what is wrong is found and told by the next refresh */
  }
}

export function drawEvents(catalogue) {
  const lag = catalogue?.lag ?? null;
  byId("events").hidden = !lag;
  const tiles = lag ? figures(lag) : [];
  fill(byId("lag"), tiles, () => tiles.map(([name, value, tone]) => el("div", { className: tone }, el("dt", {}, name), el("dd", {}, value))));
  say(byId("events-about"), lag ? about(lag) : "");
}

/** Name, figure, and whether somebody should do something about it. */
function figures(lag) {
  const alarm = (found) => (found ? "alarm" : "");
  return [
    ["waiting", count(lag.pending), ""],
    ["in hand", count(lag.processing), ""],
    ["oldest", seconds(lag.oldest_seconds), ""],
    ["withheld", count(lag.withheld), alarm(lag.withheld)],
    ["failed", count(lag.failed), alarm(lag.failed)],
    ...(lag.stuck ? [["stuck", count(lag.stuck), "alarm"]] : []),
  ];
}

function about(lag) {
  const told = [];
  if (lag.withheld) told.push("Withheld: deletions beyond what policy.shrink allows in an hour; look at the source.");
  if (lag.failed) told.push("Failed events stay until they are replayed or dropped: reshelve events list.");
  return told.join(" ");
}

export function drawSwitches(catalogue, maintenance) {
  const told = [];
  if (maintenance?.read_only) told.push(`The service is read-only: events wait, no run starts. ${maintenance.message ?? ""}`.trim());
  if (catalogue?.paused) told.push("Events of this catalogue are paused: they wait. Runs go on.");
  if (catalogue?.projection === "off") told.push("The projection is off: searches of this service find nothing.");
  byId("switched").hidden = told.length === 0;
  fill(byId("switches"), told, () => told.map((text) => el("li", {}, text)));
}
