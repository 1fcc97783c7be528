import { h } from "./dom.js";

const MAX_NODES = 2000; // a larger value is cut, so that the page stays quick

/**
 * Return a JSON value as a tree that can be folded.
 *
 * @param {any} value
 */
export function jsonTree(value) {
  const budget = { left: MAX_NODES };
  return h(
    "div",
    { class: "tree" },
    node(null, value, budget),
    budget.left <= 0 && h("p", { class: "hint" }, `Only the first ${MAX_NODES} values are shown.`),
  );
}

/**
 * @param {string | null} name
 * @param {any} value
 * @param {{left: number}} budget
 * @returns {HTMLElement}
 */
function node(name, value, budget) {
  budget.left -= 1;
  const label = name === null ? null : h("span", { class: "tree-key" }, `${name}: `);
  if (typeof value !== "object" || value === null) {
    const kind = value === null ? "null" : typeof value;
    return h("div", { class: "tree-leaf" }, label, h("span", { class: `tree-${kind}` }, JSON.stringify(value)));
  }
  const isList = Array.isArray(value);
  const entries = Object.entries(value).slice(0, Math.max(budget.left, 0));
  const size = isList ? `[${value.length}]` : `{${Object.keys(value).length}}`;
  const inner = entries.map(([key, each]) => node(key, each, budget));
  return h(
    "details",
    { open: true },
    h("summary", {}, label, h("span", { class: "tree-size" }, size)),
    h("div", { class: "tree-inner" }, ...inner),
  );
}
