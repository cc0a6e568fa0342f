// Keeps the events of a page until the server has them. They are written to IndexedDB first, even
// those of the batch that is still open, then sent in order, and repeated until acknowledged. The
// server identifies a batch by (lease, seq), so a repeat changes nothing.

const PERIOD = 1000; // ms that a batch stays open
const WRITE = 200; // ms until the open batch is written to IndexedDB
const FULL_BATCH = 2000; // events
const KEEPALIVE = 60_000; // bytes that browsers let a page send while it is being left

// Records that the page is open, the size of its window, and its zoom.
export function pageEvent(t) {
  return { e: 'page', t, w: innerWidth, h: innerHeight, dpr: devicePixelRatio };
}

export class Outbox {
  // on: {status(word), moved(), refused(error)}
  constructor(api, store, tab, on) {
    Object.assign(this, { api, store, tab, on, session: null, sealed: true });
    Object.assign(this, { queue: [], events: [], waiting: [], pause: 0, stopped: false });
    Object.assign(this, { seq: 0, answered: -1, acked: -1, failures: 0, failure: null });
    addEventListener('pagehide', () => this.leave());
    addEventListener('online', () => this.retry());
    addEventListener('offline', () => this.show());
  }

  // Resumes with the batches that earlier pages of this session left unsent.
  async open(session) {
    this.session = session;
    this.queue = (await this.store.records(session)).filter((record) => !record.acked);
    this.pump();
  }

  // Events from now on belong to this lease; batches are numbered from `seq`.
  async begin(lease, seq) {
    Object.assign(this, { lease, seq, events: [], answered: -1, acked: -1, sealed: false });
    const others = (await this.store.records(this.session)).filter((r) => r.lease !== lease);
    for (const other of new Set(others.map((record) => record.lease)))
      await this.store.forget(this.session, other);
  }

  // urgent: an answer rather than a move. It is written at once, and "saving" until acknowledged.
  add(event, urgent) {
    if (this.stopped || this.sealed) return;
    this.events.push(event);
    if (urgent) this.answered = this.seq;
    this.closing ??= setTimeout(() => this.close(), PERIOD);
    if (this.events.length >= FULL_BATCH) this.close();
    else if (urgent) this.write('strict');
    else this.writing ??= setTimeout(() => this.write('relaxed'), WRITE);
    if (urgent) this.show();
  }

  record(sent) {
    const { lease, tab, seq, events, session } = this;
    const body = JSON.stringify({ lease, tab, seq, origin: performance.timeOrigin, sent, events });
    return { session, lease, seq, body, acked: false };
  }

  write(durability) {
    clearTimeout(this.writing);
    this.writing = undefined;
    if (this.events.length) this.store.put(this.record(performance.now()), durability);
  }

  // Closes the open batch; it is sent once it is written.
  close() {
    clearTimeout(this.closing);
    clearTimeout(this.writing);
    this.closing = this.writing = undefined;
    if (!this.events.length) return;
    const record = this.record(performance.now());
    this.events = [];
    this.seq += 1;
    record.written = this.store.put({ ...record });
    this.queue.push(record);
    this.pump();
  }

  // Resolves when the server has every event so far.
  flush() {
    this.close();
    if (!this.queue.length) return Promise.resolve();
    this.pump();
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  // Takes no more events of this page; resolves to its last number when the server has them all.
  async seal() {
    this.close();
    this.sealed = true;
    await this.flush();
    return this.seq - 1;
  }

  async pump() {
    if (this.pumping || this.stopped) return;
    this.pumping = true;
    while (this.queue.length && !this.stopped && !this.pause) await this.send(this.queue[0]);
    this.pumping = false;
    if (!this.queue.length) this.waiting.splice(0).forEach((resolve) => resolve());
  }

  async send(record) {
    await record.written;
    try {
      await this.api.post('events', record.body);
      Object.assign(this, { failure: null, failures: 0 });
    } catch (error) {
      if (error.passing) return this.wait(error);
      if (!this.settle(record, error)) return;
      if (error.word === 'moved') return this.queue.shift(); // kept: see fill()
    }
    this.queue.shift();
    const { session, lease, seq, body } = record;
    if (lease === this.lease) this.acked = seq;
    this.show();
    await this.store.put({ session, lease, seq, body, acked: true }, 'relaxed');
  }

  // A refusal that will not pass; whether to go on with the next batch.
  settle(record, error) {
    const own = JSON.parse(record.body).tab === this.tab;
    // The server has this number already, from a page that was left; or the page is done.
    if (!own || error.word === 'conflict' || error.word === 'done') return true;
    this.stop();
    if (error.word === 'moved') this.on.moved();
    else this.on.refused(error);
    return false;
  }

  wait(error) {
    Object.assign(this, { failure: error, failures: this.failures + 1 });
    const delay = Math.min(500 * 2 ** this.failures, 10_000);
    this.pause = setTimeout(() => this.retry(), delay);
    this.show();
  }

  retry() {
    clearTimeout(this.pause);
    this.pause = 0;
    this.pump();
  }

  show() {
    const { failure } = this;
    if (failure?.word === 'full') this.on.status('full');
    else if (!navigator.onLine || (failure && failure.status !== 429)) this.on.status('offline');
    else this.on.status(this.answered > this.acked ? 'saving' : 'saved');
  }

  // The page is being left, perhaps for good: what the server lacks is sent without waiting.
  leave() {
    this.close();
    let room = KEEPALIVE;
    for (const { body } of this.stopped ? [] : this.queue) {
      room -= body.length;
      if (room < 0) break;
      this.api.post('events', body, { keepalive: true }).catch(() => {});
    }
  }

  // Another tab takes over: resolves when this one has stored what it has.
  async stop() {
    this.close();
    this.stopped = true;
    await Promise.all(this.queue.map((record) => record.written));
  }

  // The server lacks these batches of the lease: it gets those that are kept here, as from this
  // tab, and for the others a batch that only says that the page was open.
  async fill(missing) {
    const kept = new Map();
    for (const { seq, body } of await this.store.records(this.session, this.lease))
      kept.set(seq, body);
    for (const seq of missing) {
      const old = kept.has(seq) ? JSON.parse(kept.get(seq)) : null;
      const now = performance.now();
      const blank = { origin: performance.timeOrigin, sent: now, events: [pageEvent(now)] };
      const body = JSON.stringify({ ...(old ?? blank), lease: this.lease, tab: this.tab, seq });
      const record = { session: this.session, lease: this.lease, seq, body, acked: false };
      record.written = this.store.put({ ...record });
      this.queue.push(record);
    }
    await this.flush();
  }

  forget() {
    this.stopped = true;
    return this.store.forget(this.session);
  }
}
