/** Talks to the API: JSON in, JSON out; whatever goes wrong is a Problem with a title and a detail that a person can read. */

const READ_MS = 15_000;
const WRITE_MS = 60_000;

/** A problem document, or the want of any answer (status 0). */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || "");
    this.status = status;
    this.title = body.title || `The service answered ${status}`;
    this.detail = body.detail || "";
    this.code = body.code || "unknown";
    this.errors = [body.errors, body.findings].flat().filter(Boolean);
    this.requestId = body.request_id || null;
    this.runId = body.run_id || null;
  }
}

/** One request below /api/v1. Throws a Problem. */
export async function call(method, path, body = undefined, headers = {}) {
  const response = await answer(method, path, body, headers);
  if (!response.ok) throw new Problem(response.status, await problemOf(response));
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch {
    throw new Problem(0, { title: "The answer broke off", detail: "Another try may help." });
  }
}

async function answer(method, path, body, headers) {
  const json = body === undefined ? {} : { "Content-Type": "application/json" };
  try {
    return await fetch(`api/v1${path}`, {
      method,
      headers: { Accept: "application/json", ...json, ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(method === "GET" ? READ_MS : WRITE_MS),
    });
  } catch {
    throw new Problem(0, { title: "No answer", detail: "The service could not be reached.", code: "unreachable" });
  }
}

async function problemOf(response) {
  try {
    return (await response.json()) ?? {};
  } catch {
    return { detail: `The answer was no problem document (status ${response.status}).` };
  }
}

export const get = (path) => call("GET", path);
export const post = (path, body = {}, headers = {}) => call("POST", path, body, headers);

/** A path segment of a name that somebody else chose. */
export const part = (name) => encodeURIComponent(name);

/** A fresh Idempotency-Key; works without a secure context too. */
export function freshKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
