// What the browser keeps across reloads and crashes, in IndexedDB: the batches of events, and the
// session of each link. localStorage would be simpler, but reaches the disk seconds later.

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

// Batches are {session, lease, seq, body, acked}: `body` is the JSON of a batch.
class Store {
  constructor(db) {
    this.db = db;
  }

  // Commits at once, so that a write at pagehide survives the page.
  write(change, durability, name = 'batches') {
    const transaction = this.db.transaction(name, 'readwrite', { durability });
    change(transaction.objectStore(name));
    transaction.commit();
    return new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
  }

  // The batches of a session, or of one of its leases, in order.
  records(...key) {
    const range = IDBKeyRange.bound(key, [...key, []]);
    return settled(this.db.transaction('batches').objectStore('batches').getAll(range));
  }

  // Resolves once it is on disk. If that fails, the batch is still in memory.
  put(record, durability = 'strict') {
    return this.write((batches) => batches.put(record), durability).catch(() => {});
  }

  forget(...key) {
    return this.write((batches) => batches.delete(IDBKeyRange.bound(key, [...key, []])), 'strict');
  }

  session(link) {
    return settled(this.db.transaction('sessions').objectStore('sessions').get(link));
  }

  // token: null to forget it
  keepSession(link, token) {
    const change = (sessions) => (token ? sessions.put(token, link) : sessions.delete(link));
    return this.write(change, 'strict', 'sessions');
  }
}

const nothing = async () => {};
// Without storage (as in some private windows), only a reload loses anything.
const NO_STORE = {
  records: async () => [],
  put: nothing,
  forget: nothing,
  session: nothing,
  keepSession: nothing,
};

export async function openStore() {
  try {
    const request = indexedDB.open('luab_jax', 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore('batches', { keyPath: ['session', 'lease', 'seq'] });
      request.result.createObjectStore('sessions');
    };
    return new Store(await settled(request));
  } catch {
    return NO_STORE;
  }
}
