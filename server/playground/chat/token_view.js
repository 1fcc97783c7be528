/**
 * Shows an answer as tokens, tinted by their probability. Hover, or focus and arrow keys, show the alternatives.
 */

import { fill, h, tokenClass } from "../dom.js";

/** @typedef {import("../types.js").TokenLogprob} TokenLogprob */

export class TokenView {
  #tokens = /** @type {TokenLogprob[]} */ ([]);
  #list = h("div", {
    class: "tokens",
    role: "listbox",
    "aria-label": "Tokens of the answer",
    "aria-orientation": "horizontal",
  });
  #detail = h(
    "div",
    { class: "token-detail", role: "status" },
    "The stronger the tint, the less likely the token. Point at one, or use the arrow keys, to see its alternatives.",
  );
  element = h("div", { class: "token-view" }, this.#list, this.#detail);

  constructor() {
    this.#list.addEventListener("mouseover", (event) => this.#describe(event.target));
    this.#list.addEventListener("focusin", (event) => this.#describe(event.target));
    this.#list.addEventListener("keydown", (event) => this.#move(event));
  }

  /** @param {TokenLogprob[]} tokens as before, or more */
  update(tokens) {
    const shown = this.#list.childElementCount;
    this.#tokens = tokens;
    this.#list.append(...tokens.slice(shown).map((token, index) => span(token, shown + index)));
  }

  /** @param {EventTarget | null} target */
  #describe(target) {
    if (!(target instanceof HTMLElement) || target.dataset.index === undefined) return;
    const token = this.#tokens[Number(target.dataset.index)];
    for (const old of this.#list.querySelectorAll("[aria-selected=true]")) {
      old.setAttribute("aria-selected", "false");
      old.setAttribute("tabindex", "-1");
    }
    target.setAttribute("aria-selected", "true");
    target.setAttribute("tabindex", "0");
    const others = token.top.filter((other) => other.token !== token.token);
    fill(
      this.#detail,
      h("strong", {}, quoted(token.token)),
      ` ${percent(token.logprob)} (log-probability ${token.logprob.toFixed(3)})`,
      ...others.map((other) => h("span", { class: "alternative" }, `${quoted(other.token)} ${percent(other.logprob)}`)),
    );
  }

  /** @param {KeyboardEvent} event */
  #move(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -10, ArrowDown: 10 }[event.key];
    const at = document.activeElement instanceof HTMLElement ? Number(document.activeElement.dataset.index) : NaN;
    if (step === undefined || Number.isNaN(at)) return;
    event.preventDefault();
    const next = this.#list.children[Math.min(Math.max(at + step, 0), this.#tokens.length - 1)];
    if (next instanceof HTMLElement) next.focus();
  }
}

/**
 * @param {TokenLogprob} token
 * @param {number} index
 */
function span(token, index) {
  const probability = Math.exp(token.logprob);
  const level = [0.9, 0.6, 0.3, 0.1].filter((limit) => probability < limit).length;
  const attributes = {
    role: "option",
    "aria-selected": "false",
    tabindex: index ? "-1" : "0",
    "data-index": index,
    "aria-label": quoted(token.token),
  };
  return h("span", { ...attributes, class: tokenClass(token.token, `p${level}`) }, token.token || "∅");
}

/** @param {string} token */
function quoted(token) {
  return JSON.stringify(token);
}

/** @param {number} logprob */
function percent(logprob) {
  const value = Math.exp(logprob) * 100;
  return value > 0 && value < 0.1 ? "< 0.1 %" : `${value.toFixed(1)} %`;
}
