/**
 * Shows Markdown that grows while it streams. Blocks that are complete are never built again, so that the work per
 * frame does not grow with the answer.
 */

import { copyButton } from "./clipboard.js";
import { fill, h } from "./dom.js";
import { parseBlocks } from "./markdown/blocks.js";
import { inline } from "./markdown/inline.js";

/** @typedef {import("./markdown/blocks.js").Block} Block */
/** @typedef {{block: Block, node: HTMLElement}} Built */

export class MarkdownView {
  element = h("div", { class: "markdown" });
  #text = "";
  /** The blocks from `#start` on, which may still change. @type {Built[]} */
  #open = [];
  #start = 0;

  /**
   * Show `text`. It is usually longer than before and has the same beginning.
   *
   * @param {string} text
   */
  update(text) {
    if (text === this.#text) return;
    if (!text.startsWith(this.#text)) {
      this.#open = [];
      this.#start = 0;
      fill(this.element);
    }
    this.#text = text;
    const tail = text.slice(this.#start);
    const blocks = parseBlocks(tail);
    this.#open = patch(this.element, this.#open, blocks);
    this.#close(tail);
  }

  /**
   * Close the blocks that are followed by the whole first line of another block.
   *
   * @param {string} tail
   */
  #close(tail) {
    const starts = [0];
    for (let at = tail.indexOf("\n"); at >= 0; at = tail.indexOf("\n", at + 1)) starts.push(at + 1);
    const closed = this.#open.findLastIndex(({ block }) => block.line < starts.length - 1);
    if (closed <= 0) return;
    this.#start += starts[this.#open[closed].block.line];
    const offset = this.#open[closed].block.line;
    this.#open = this.#open.slice(closed);
    for (const built of this.#open) built.block = { ...built.block, line: built.block.line - offset };
  }
}

/**
 * Make the last children of `parent`, which show `old`, show `blocks` instead.
 *
 * @param {HTMLElement} parent
 * @param {Built[]} old
 * @param {Block[]} blocks
 * @returns {Built[]}
 */
function patch(parent, old, blocks) {
  const built = blocks.map((block, index) => {
    const before = old[index];
    if (before && before.block.kind === block.kind) {
      if (before.block.source !== block.source) grow(before, block);
      return { block, node: before.node };
    }
    const node = render(block);
    if (before) before.node.replaceWith(node);
    else parent.append(node);
    return { block, node };
  });
  for (const { node } of old.slice(blocks.length)) node.remove();
  return built;
}

/**
 * Change the node of a block into that of a later state of the block.
 *
 * @param {Built} before
 * @param {Block} block
 */
function grow(before, block) {
  const { node } = before;
  const text = node.querySelector("code")?.firstChild;
  if (block.kind === "code" && text instanceof Text && block.language === before.block.language) {
    const known = before.block.text ?? "";
    if (block.text?.startsWith(known)) text.appendData(block.text.slice(known.length));
    else text.data = block.text ?? "";
  } else if (block.kind === "list" && block.ordered === before.block.ordered) {
    growItems(node, before.block, block);
  } else if (
    block.kind === "table" &&
    `${block.header}\0${block.align}` === `${before.block.header}\0${before.block.align}`
  ) {
    growRows(/** @type {Element} */ (node.querySelector("tbody")), before.block, block);
  } else {
    const made = render(block);
    node.replaceWith(made);
    before.node = made;
  }
}

/** @type {(node: HTMLElement, before: Block, block: Block) => void} */
function growItems(node, before, block) {
  const known = before.items ?? [];
  const items = block.items ?? [];
  items.forEach((item, index) => {
    if (known[index]?.source === item.source) return;
    const made = h("li", {}, ...itemContent(item.blocks));
    if (index < known.length) node.children[index].replaceWith(made);
    else node.append(made);
  });
  while (node.children.length > items.length) node.lastElementChild?.remove();
}

/** @type {(body: Element, before: Block, block: Block) => void} */
function growRows(body, before, block) {
  const known = before.rows ?? [];
  const rows = block.rows ?? [];
  rows.forEach((cells, index) => {
    if (known[index]?.join("\0") === cells.join("\0")) return;
    const made = row("td", cells, block);
    if (index < known.length) body.children[index].replaceWith(made);
    else body.append(made);
  });
  while (body.children.length > rows.length) body.lastElementChild?.remove();
}

/**
 * @param {Block} block
 * @returns {HTMLElement}
 */
function render(block) {
  const text = block.text ?? "";
  switch (block.kind) {
    case "heading":
      // The page's own headings are levels 1 and 2.
      return h(/** @type {"h3"} */ (`h${Math.min((block.level ?? 1) + 2, 6)}`), {}, ...inline(text));
    case "code":
      return codeBlock(block.language ?? "", text);
    case "rule":
      return h("hr");
    case "quote":
      return h("blockquote", {}, ...(block.blocks ?? []).map(render));
    case "list":
      return list(block);
    case "table":
      return table(block);
    default:
      return h("p", {}, ...inline(text));
  }
}

/**
 * Return a block of code with a button that copies it.
 *
 * @param {string} language
 * @param {string} text
 */
export function codeBlock(language, text) {
  const code = h("code", {});
  code.append(document.createTextNode(text));
  const bar = h(
    "div",
    { class: "code-bar" },
    h("span", {}, language || "text"),
    copyButton("Copy code", () => code.textContent ?? ""),
  );
  return h("div", { class: "code" }, bar, h("pre", { tabindex: "0" }, code));
}

/** @param {Block} block */
function list(block) {
  const items = (block.items ?? []).map((item) => h("li", {}, ...itemContent(item.blocks)));
  return block.ordered ? h("ol", { start: block.start === 1 ? null : block.start }, ...items) : h("ul", {}, ...items);
}

/**
 * Return an item's nodes; its first paragraph needs no element of its own.
 *
 * @param {Block[]} blocks
 * @returns {Node[]}
 */
function itemContent(blocks) {
  const [first, ...others] = blocks;
  if (first?.kind !== "paragraph") return blocks.map(render);
  return [...inline(first.text ?? ""), ...others.map(render)];
}

/** @param {Block} block */
function table(block) {
  const body = h("tbody", {}, ...(block.rows ?? []).map((cells) => row("td", cells, block)));
  return h(
    "div",
    { class: "table", tabindex: "0" },
    h("table", {}, h("thead", {}, row("th", block.header ?? [], block)), body),
  );
}

/**
 * @param {"td" | "th"} tag
 * @param {string[]} cells
 * @param {Block} block
 */
function row(tag, cells, block) {
  const made = cells.map((cell, column) => h(tag, { class: block.align?.[column] || null }, ...inline(cell)));
  return h("tr", {}, ...made);
}
