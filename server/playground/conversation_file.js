/**
 * The file format of exported conversations. Whatever a file holds, an import makes only well-formed turns of it.
 */

import { newId } from "./conversation.js";
import { completeSettings } from "./settings.js";

/** @typedef {import("./types.js").Conversation} Conversation */
/** @typedef {import("./types.js").Turn} Turn */

const FORMAT = "lfm-serve conversations";
const VERSION = 1;
const ID = /^[0-9a-f]{24}$/;
const ROLES = ["user", "assistant", "tool"];

/** @param {Conversation[]} conversations */
export function toFile(conversations) {
  return JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 2);
}

/**
 * Return the conversations of an exported file, each with a new id. Throws an Error that says what is wrong.
 *
 * @param {string} text
 * @returns {Conversation[]}
 */
export function fromFile(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("The file is not JSON.");
  }
  if (file?.format !== FORMAT || !Array.isArray(file.conversations)) {
    throw new Error("The file holds no conversations exported from this page.");
  }
  if (file.version !== VERSION)
    throw new Error(`The file has version ${file.version}; this page reads version ${VERSION}.`);
  return file.conversations.map(conversation);
}

/**
 * @param {any} value
 * @param {number} index
 * @returns {Conversation}
 */
function conversation(value, index) {
  const place = `Conversation ${index + 1}`;
  if (typeof value?.turns !== "object" || value.turns === null) throw new Error(`${place} has no turns.`);
  /** @type {Record<string, Turn>} */
  const turns = {};
  for (const [id, each] of Object.entries(value.turns)) {
    const { role, parent } = each ?? {};
    if (!ROLES.includes(role)) throw new Error(`${place} has a turn whose role is not one of ${ROLES.join(", ")}.`);
    if (!ID.test(id)) throw new Error(`${place} has a turn with an invalid id.`);
    // A turn comes after its parent, so there is no cycle.
    if (parent !== null && !Object.hasOwn(turns, parent)) throw new Error(`${place} has a turn without its parent.`);
    turns[id] = turn(id, parent, each);
  }
  return {
    id: newId(),
    title: text(value.title),
    changed: Date.now(),
    turns,
    leaf: Object.hasOwn(turns, value.leaf) ? value.leaf : (Object.keys(turns).at(-1) ?? null),
    settings: completeSettings(value.settings),
  };
}

/**
 * @param {string} id
 * @param {string | null} parent
 * @param {any} value
 * @returns {Turn}
 */
function turn(id, parent, value) {
  /** @type {Turn} */
  const made = { id, parent, role: value.role, content: text(value.content) };
  for (const key of /** @type {const} */ (["reasoning", "callId", "system", "finish", "requestId"])) {
    if (typeof value[key] === "string") made[key] = value[key];
  }
  if (Array.isArray(value.calls)) made.calls = value.calls.map(call);
  if (typeof value.reasoningMs === "number") made.reasoningMs = value.reasoningMs;
  if (typeof value.sent === "object" && value.sent !== null) made.sent = value.sent;
  if (typeof value.numbers === "object" && value.numbers !== null) made.numbers = numbers(value.numbers);
  if (Array.isArray(value.logprobs)) made.logprobs = value.logprobs.map(logprob);
  if (value.failure) made.failure = { message: text(value.failure.message), requestId: text(value.failure.requestId) };
  return made;
}

/** @param {any} value */
function call(value) {
  return { id: text(value?.id), name: text(value?.name), arguments: text(value?.arguments) };
}

/** @param {any} value */
function logprob(value) {
  const top = Array.isArray(value?.top) ? value.top : [];
  return { ...pair(value), top: top.map(pair) };
}

/** @param {any} value */
function pair(value) {
  return { token: text(value?.token), logprob: Number(value?.logprob) || 0 };
}

/** @param {Record<string, any>} value */
function numbers(value) {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => typeof each === "number"));
}

/** @param {any} value */
function text(value) {
  return typeof value === "string" ? value : "";
}
