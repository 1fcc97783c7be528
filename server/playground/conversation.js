/**
 * Conversations as trees of turns. Editing or regenerating a turn adds a sibling; nothing is overwritten.
 */

/** @typedef {import("./types.js").Conversation} Conversation */
/** @typedef {import("./types.js").Turn} Turn */
/** @typedef {import("./types.js").Settings} Settings */

const TITLE_LENGTH = 60;

/** Return a random id. `crypto.randomUUID` is missing on plain HTTP. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {Settings} settings
 * @returns {Conversation}
 */
export function newConversation(settings) {
  return { id: newId(), title: "", changed: Date.now(), turns: {}, leaf: null, settings: structuredClone(settings) };
}

/**
 * Add a turn below `parent` and show its branch.
 *
 * @param {Conversation} conversation
 * @param {string | null} parent
 * @param {Partial<Turn> & Pick<Turn, "role">} values
 * @returns {Turn}
 */
export function addTurn(conversation, parent, values) {
  /** @type {Turn} */
  const turn = { content: "", ...values, id: newId(), parent };
  conversation.turns[turn.id] = turn;
  conversation.leaf = turn.id;
  if (!conversation.title && turn.role === "user") conversation.title = titleOf(turn.content);
  return turn;
}

/** @param {string} content */
function titleOf(content) {
  const line = content.trim().split("\n", 1)[0];
  return line.length > TITLE_LENGTH ? `${line.slice(0, TITLE_LENGTH - 1)}…` : line;
}

/**
 * Return the turns from the first one to `leaf`.
 *
 * @param {Conversation} conversation
 * @param {string | null} leaf
 * @returns {Turn[]}
 */
export function path(conversation, leaf = conversation.leaf) {
  const turns = [];
  for (let id = leaf; id !== null; id = conversation.turns[id].parent) turns.push(conversation.turns[id]);
  return turns.reverse();
}

/**
 * Return the versions of a turn: all turns below the same parent, oldest first.
 *
 * @param {Conversation} conversation
 * @param {Turn} turn
 */
export function versions(conversation, turn) {
  return Object.values(conversation.turns).filter((other) => other.parent === turn.parent);
}

/**
 * Show the branch through `turn`: down to its newest leaf.
 *
 * @param {Conversation} conversation
 * @param {Turn} turn
 */
export function showBranch(conversation, turn) {
  const newest = new Map(Object.values(conversation.turns).map((child) => [child.parent, child.id]));
  let leaf = turn.id;
  for (let next = newest.get(leaf); next !== undefined; next = newest.get(leaf)) leaf = next;
  conversation.leaf = leaf;
}

/**
 * Return a new conversation that holds only the turns up to `turn`.
 *
 * @param {Conversation} conversation
 * @param {Turn} turn
 */
export function branchOff(conversation, turn) {
  const branch = newConversation(conversation.settings);
  branch.title = conversation.title;
  for (const each of path(conversation, turn.id)) branch.turns[each.id] = structuredClone(each);
  branch.leaf = turn.id;
  return branch;
}

/**
 * Return the calls of the shown branch's last answer that have no result yet.
 *
 * @param {Conversation} conversation
 */
export function openCalls(conversation) {
  const turns = path(conversation);
  const answered = new Set();
  for (const turn of turns.reverse()) {
    if (turn.role === "tool") answered.add(turn.callId);
    else return (turn.calls ?? []).filter((call) => !answered.has(call.id));
  }
  return [];
}
