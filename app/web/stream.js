/**
 * One catalogue's story as it happens.
 *
 * The browser's EventSource reconnects by itself after a broken connection and sends Last-Event-ID. It gives up for good
 * on an answer that is no stream (401, 502, 204): then this class waits, longer each time, asks `ready` whether the
 * service answers again, and opens a new one with `?after=<last id>`. `bye` says that the service is going down: the same.
 * A stream that is silent for too long is not believed: `silent` may look whether it is still good, and reopen it.
 *
 *   connecting -> live -> lost -> live ...        closed by close() only
 */

const FIRST_MS = 1_000;
const LONGEST_MS = 30_000;
const SILENCE_MS = 25_000;

export class Stream {
  /** `heard(line)`, `resync()`, `changed(state)`, `silent()` are told; `ready()` may throw to say "not yet". */
  constructor(path, { heard, resync, changed, silent, ready }) {
    this.path = path;
    this.told = { heard, resync, changed, silent, ready };
    this.source = null;
    this.timer = null;
    this.watch = null;
    this.tries = 0;
    this.closed = true;
    this.last = null;
  }

  /** Begin behind line number `after`, or where the service likes when that is null. */
  open(after) {
    this.closed = false;
    this.last = after;
    this.told.changed("connecting");
    this.#connect();
  }

  close() {
    this.closed = true;
    this.#drop();
    clearTimeout(this.timer);
  }

  /** Give this connection up and make a new one after a pause. */
  reopen() {
    if (this.closed) return;
    this.#drop();
    this.told.changed("lost");
    const longest = Math.min(FIRST_MS * 2 ** this.tries++, LONGEST_MS);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#again(), longest * (0.5 + Math.random() / 2));
  }

  async #again() {
    try {
      await this.told.ready();
    } catch {
      return this.reopen();
    }
    if (!this.closed && this.source === null) this.#connect();
  }

  #connect() {
    const source = new EventSource(this.last === null ? this.path : `${this.path}?after=${this.last}`);
    this.source = source;
    source.onopen = () => this.#opened();
    source.onerror = () => (source.readyState === EventSource.CLOSED ? this.reopen() : this.told.changed("lost"));
    source.onmessage = (event) => this.#message(event);
    source.addEventListener("resync", (event) => this.#resync(event));
    source.addEventListener("heartbeat", () => this.#awake());
    source.addEventListener("bye", () => this.reopen());
    this.#awake();
  }

  #opened() {
    this.tries = 0;
    this.#awake();
    this.told.changed("live");
  }

  #message(event) {
    this.#awake();
    if (event.lastEventId) this.last = event.lastEventId;
    this.told.heard(JSON.parse(event.data));
  }

  #resync(event) {
    this.#awake();
    if (event.lastEventId) this.last = event.lastEventId;
    this.told.resync();
  }

  #awake() {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => this.#silence(), SILENCE_MS);
  }

  #silence() {
    this.#awake();
    this.told.silent();
  }

  #drop() {
    clearTimeout(this.watch);
    this.source?.close();
    this.source = null;
  }
}
