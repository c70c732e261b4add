/** Figures and times as a person reads them, and small pieces of page. All text goes in as text, never as markup. */

const numbers = new Intl.NumberFormat("en-GB");
const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export const byId = (id) => document.getElementById(id);

/** A new element; `props` are DOM properties and `data-` attributes, children are elements or text. */
export function el(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child instanceof Node ? child : String(child)));
  return made;
}

const drawn = new WeakMap();

/** Replace what is inside `parent`, but only when `facts` differ from last time: focus and selection survive. */
export function fill(parent, facts, children) {
  const key = JSON.stringify(facts);
  if (drawn.get(parent) === key) return;
  drawn.set(parent, key);
  parent.replaceChildren(...children());
}

/** Set text only when it differs, so that screen readers are not told the same thing twice. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const count = (value) => (value === null || value === undefined ? "–" : numbers.format(value));

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 5_400) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3_600)} h ${Math.round((value % 3_600) / 60)} min`;
}

const dollars = new Intl.NumberFormat("en-GB", { style: "currency", currency: "USD", maximumFractionDigits: 4 });

/** US dollars; what is not known is not shown as nothing. */
export const money = (value) => (value === null || value === undefined ? "–" : dollars.format(value));

export function bytes(value) {
  if (!value) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(Math.floor(Math.log10(value) / 3), units.length - 1);
  return `${(value / 1_000 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}

/** A moment in local time; the exact one in UTC stands in the title. */
export function moment(iso) {
  return iso ? el("time", { dateTime: iso, title: iso }, moments.format(new Date(iso))) : "–";
}

export const momentText = (iso) => (iso ? moments.format(new Date(iso)) : "an unknown time");
export const clockNow = () => clock.format(new Date());

/** Anything of a verdict, short enough for a table. */
export function brief(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return numbers.format(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/** Seconds from one moment to another, null when one of them is missing. */
export const between = (start, end) => (start && end ? Math.max((new Date(end) - new Date(start)) / 1_000, 0) : null);

export const row = (...cells) => el("tr", {}, ...cells);
export const cell = (content, className = "") => el("td", { className }, content);
export const badge = (text, tone) => el("span", { className: `badge ${tone}` }, text);
