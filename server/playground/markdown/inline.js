/**
 * Turns the text of a paragraph into DOM nodes: emphasis, code, links and line breaks. Linear in the text's length.
 *
 * Images become links, so that no answer makes the browser load anything. HTML stays text.
 */

import { h } from "../dom.js";

/**
 * @typedef {object} Piece A text, a finished node, or delimiters that may become tags.
 * @property {string} text
 * @property {Node} [node]
 * @property {string[]} [opens] tags that open after the text, innermost first
 * @property {string[]} [closes] tags that close before the text, innermost first
 * @property {string} [href] of a link that opens here
 */

const PUNCTUATION = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}_]/u;
const URL_TEXT = /https?:\/\/[^\s<>"'`()[\]]{1,2000}/y;
const TARGET = /\(\s{0,3}<?([^\s()<>]{0,2000})>?(?:\s{1,3}"[^"\n]{0,200}")?\s{0,3}\)/y;
const SPECIAL = /[\\`*_~[\]!<h\n]/g;

/**
 * @param {string} text
 * @returns {Node[]}
 */
export function inline(text) {
  return build(new Scanner(text).scan());
}

class Scanner {
  /** @type {Piece[]} */
  pieces = [];
  /** Positions in `pieces` of delimiters that may open, by character. @type {Record<string, number[]>} */
  #open = { "*": [], _: [], "~": [] };
  /** Positions of open square brackets. @type {number[]} */
  #brackets = [];
  /** Positions in the text of runs of backticks, by length; made when first needed. @type {Map<number, number[]> | null} */
  #ticks = null;

  /** @param {string} text */
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  scan() {
    while (this.at < this.text.length) {
      SPECIAL.lastIndex = this.at;
      const next = SPECIAL.exec(this.text)?.index ?? this.text.length;
      if (next > this.at) this.#text(this.text.slice(this.at, next));
      this.at = next;
      if (next < this.text.length) this.#special(this.text[next]);
    }
    return this.pieces;
  }

  /** @param {string} text */
  #text(text) {
    this.pieces.push({ text });
  }

  /**
   * @param {string} text
   * @param {number} length
   */
  #take(text, length) {
    this.#text(text);
    this.at += length;
  }

  /** @param {string} character */
  #special(character) {
    const { text, at } = this;
    if (character === "\n") this.#node(h("br"), 1);
    else if (character === "\\") {
      const next = text[at + 1] ?? "";
      if (PUNCTUATION.test(next)) this.#take(next, 2);
      else this.#take("\\", 1);
    } else if (character === "`") this.#code();
    else if (character === "h" || character === "<") this.#address(character);
    else if (character === "[" || (character === "!" && text[at + 1] === "[")) {
      this.#brackets.push(this.pieces.length);
      this.#take(character === "[" ? "[" : "![", character === "[" ? 1 : 2);
    } else if (character === "]") this.#link();
    else if (character in this.#open) this.#delimiters(character);
    else this.#take(character, 1);
  }

  /**
   * @param {Node} node
   * @param {number} length
   */
  #node(node, length) {
    this.pieces.push({ text: "", node });
    this.at += length;
  }

  #code() {
    const length = runLength(this.text, this.at);
    this.#ticks ??= runs(this.text);
    const places = /** @type {number[]} */ (this.#ticks.get(length));
    while (places.length && /** @type {number} */ (places.at(-1)) <= this.at) places.pop();
    const end = places.at(-1);
    if (end === undefined) this.#take("`".repeat(length), length);
    else {
      const inner = this.text.slice(this.at + length, end).replaceAll("\n", " ");
      const isPadded = inner.startsWith(" ") && inner.endsWith(" ") && inner.trim() !== "";
      this.#node(h("code", {}, isPadded ? inner.slice(1, -1) : inner), end + length - this.at);
    }
  }

  /** @param {string} character */
  #address(character) {
    URL_TEXT.lastIndex = character === "<" ? this.at + 1 : this.at;
    const before = this.text[this.at - 1] ?? " ";
    const found = character === "h" && WORD.test(before) ? null : URL_TEXT.exec(this.text);
    const isClosed = found !== null && this.text[URL_TEXT.lastIndex] === ">";
    if (found === null || (character === "<" && !isClosed)) {
      this.#take(character, 1);
      return;
    }
    const href = character === "<" ? found[0] : found[0].replace(/[.,;:!?*_~]{1,9}$/, "");
    const link = safeLink(href);
    if (link === null) this.#take(character, 1);
    else this.#node(anchor(link, href), href.length + (character === "<" ? 2 : 0));
  }

  #link() {
    const opener = this.#brackets.pop();
    TARGET.lastIndex = this.at + 1;
    const target = opener === undefined ? null : TARGET.exec(this.text);
    const href = target && safeLink(target[1]);
    if (opener === undefined || target === null || !href) {
      this.#take("]", 1);
      return;
    }
    this.pieces[opener] = { text: "", opens: ["a"], href };
    this.pieces.push({ text: "", closes: ["a"] });
    this.at += 1 + target[0].length;
    this.#brackets = []; // a link holds no link
    for (const places of Object.values(this.#open)) discard(places, opener);
  }

  /** @param {string} character */
  #delimiters(character) {
    const start = this.at;
    while (this.text[this.at] === character) this.at += 1;
    const count = this.at - start;
    const before = this.text[start - 1] ?? " ";
    const after = this.text[this.at] ?? " ";
    const isWordInside = character === "_" && WORD.test(before) && WORD.test(after);
    const usable = !isWordInside && (character !== "~" || count === 2);
    /** @type {Piece} */
    const piece = { text: character.repeat(count), opens: [], closes: [] };
    const position = this.pieces.push(piece) - 1;
    if (usable && before.trim()) this.#close(character, piece);
    if (usable && after.trim() && piece.text) this.#open[character].push(position);
  }

  /**
   * Match closing delimiters with the nearest open ones.
   *
   * @param {string} character
   * @param {Piece} closer
   */
  #close(character, closer) {
    const places = this.#open[character];
    while (closer.text && places.length) {
      const position = /** @type {number} */ (places.at(-1));
      const opener = this.pieces[position];
      const width = Math.min(opener.text.length, closer.text.length, 2);
      const tag = character === "~" ? "del" : width === 2 ? "strong" : "em";
      opener.opens?.push(tag);
      closer.closes?.push(tag);
      opener.text = opener.text.slice(width);
      closer.text = closer.text.slice(width);
      for (const [other, open] of Object.entries(this.#open)) if (other !== character) discard(open, position);
      discard(this.#brackets, position);
      if (!opener.text) places.pop();
    }
  }
}

/**
 * Drop the positions after `limit` from a sorted list.
 *
 * @param {number[]} places
 * @param {number} limit
 */
function discard(places, limit) {
  while (places.length && /** @type {number} */ (places.at(-1)) > limit) places.pop();
}

/**
 * @param {string} text
 * @param {number} at
 */
function runLength(text, at) {
  let end = at;
  while (text[end] === "`") end += 1;
  return end - at;
}

/**
 * Return the positions of runs of backticks by length, the last one first.
 *
 * @param {string} text
 */
function runs(text) {
  /** @type {Map<number, number[]>} */
  const found = new Map();
  for (const { 0: run, index } of text.matchAll(/`+/g)) {
    const places = found.get(run.length);
    if (places) places.push(index);
    else found.set(run.length, [index]);
  }
  for (const places of found.values()) places.reverse();
  return found;
}

/**
 * Return the address if a click on it is harmless, else null.
 *
 * @param {string} href
 */
function safeLink(href) {
  try {
    return ["http:", "https:", "mailto:"].includes(new URL(href).protocol) ? href : null;
  } catch {
    return null;
  }
}

/**
 * @param {string} href
 * @param {string} text
 */
function anchor(href, text) {
  return h("a", { href, target: "_blank", rel: "noopener noreferrer" }, text);
}

/**
 * @param {Piece[]} pieces
 * @returns {Node[]}
 */
function build(pieces) {
  const root = document.createDocumentFragment();
  /** @type {Node[]} */
  const stack = [root];
  const top = () => /** @type {Node} */ (stack.at(-1));
  for (const piece of pieces) {
    for (const _ of piece.closes ?? []) stack.pop();
    if (piece.text) top().appendChild(document.createTextNode(piece.text));
    if (piece.node) top().appendChild(piece.node);
    for (const tag of [...(piece.opens ?? [])].reverse()) {
      const element = tag === "a" ? anchor(piece.href ?? "", "") : document.createElement(tag);
      top().appendChild(element);
      stack.push(element);
    }
  }
  root.normalize();
  return [...root.childNodes];
}
