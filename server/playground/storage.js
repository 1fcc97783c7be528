/**
 * Keeps conversations in the browser's IndexedDB, and small preferences in its local storage. Servers behind different
 * path prefixes of one host have their own.
 */

/** @typedef {import("./types.js").Conversation} Conversation */

const NAME = `lfm-serve ${new URL(".", document.baseURI).pathname}`;
const STORE = "conversations";

/** @type {Promise<IDBDatabase> | null} */
let opening = null;

function database() {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opening;
}

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} work
 * @returns {Promise<T>}
 */
async function run(mode, work) {
  const store = (await database()).transaction(STORE, mode).objectStore(STORE);
  return new Promise((resolve, reject) => {
    const request = work(store);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * Return all conversations, the most recently changed one first.
 *
 * @returns {Promise<Conversation[]>}
 */
export async function loadConversations() {
  const all = await run("readonly", (store) => store.getAll());
  return all.sort((one, other) => other.changed - one.changed);
}

/** @param {Conversation} conversation */
export async function keepConversation(conversation) {
  await run("readwrite", (store) => store.put(conversation));
}

/** @param {string} id */
export async function dropConversation(id) {
  await run("readwrite", (store) => store.delete(id));
}

/** @param {"theme" | "key" | "current"} name */
export function preference(name) {
  return localStorage.getItem(`${NAME} ${name}`) ?? "";
}

/**
 * @param {"theme" | "key" | "current"} name
 * @param {string} value "" removes it
 */
export function setPreference(name, value) {
  if (value) localStorage.setItem(`${NAME} ${name}`, value);
  else localStorage.removeItem(`${NAME} ${name}`);
}
