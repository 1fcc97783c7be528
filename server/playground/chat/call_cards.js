/**
 * Shows the calls of an answer as cards: the arguments as they stream, and a field for each result.
 */

import { button, h, icon } from "../dom.js";
import { builtIn } from "../tools.js";

/** @typedef {import("../types.js").Call} Call */
/** @typedef {"streaming" | "open" | "answered"} State */

export class CallCards {
  element = h("div", { class: "calls" });
  #cards = /** @type {Card[]} */ ([]);
  #send = button("Send results", () => this.#submit(), { class: "button primary" });
  #change = button("Change results", () => this.onChange());
  #foot = h("div", { class: "call-actions" });

  /**
   * @param {(results: Map<string, string>) => void} onSend gets the results by the call's id
   * @param {() => void} onChange asks to send other results
   */
  constructor(onSend, onChange) {
    this.onSend = onSend;
    this.onChange = onChange;
  }

  /**
   * @param {Call[]} calls
   * @param {State} state
   * @param {Map<string, string>} results results that were sent, by the call's id
   */
  update(calls, state, results) {
    while (this.#cards.length < calls.length) {
      const card = new Card(() => this.#updateSend());
      this.#cards.push(card);
      this.element.append(card.element);
    }
    calls.forEach((call, index) => this.#cards[index].update(call, state, results.get(call.id)));
    this.#foot.replaceChildren(...(state === "open" ? [this.#send] : state === "answered" ? [this.#change] : []));
    this.element.append(this.#foot);
    this.#updateSend();
  }

  #updateSend() {
    this.#send.disabled = this.#cards.some((card) => !card.result.value.trim());
  }

  #submit() {
    this.onSend(new Map(this.#cards.map((card) => [card.id, card.result.value])));
  }
}

let count = 0;

class Card {
  #name = h("code", {});
  #arguments = h("pre", { tabindex: "0" });
  #hint = h("span", { class: "hint" });
  #run = button("Run", () => this.#runBuiltIn());
  #label;
  result;
  id = "";
  #call = /** @type {Call} */ ({ id: "", name: "", arguments: "" });

  /** @param {() => void} onInput */
  constructor(onInput) {
    const id = `result-${(count += 1)}`;
    this.onInput = onInput;
    this.result = h("textarea", { id, rows: 2, spellcheck: "false", on: { input: onInput } });
    this.#label = h("label", { for: id }, "Result");
    const head = h("div", { class: "call-head" }, icon("tool"), this.#name, this.#hint);
    this.element = h(
      "section",
      { class: "call" },
      head,
      this.#arguments,
      h("div", { class: "call-result" }, this.#label, this.#run, this.result),
    );
  }

  /**
   * @param {Call} call
   * @param {State} state
   * @param {string} [sent]
   */
  update(call, state, sent) {
    this.#call = call;
    this.id = call.id;
    this.#name.textContent = call.name || "…";
    this.element.setAttribute("aria-label", `Call of ${call.name}`);
    this.#arguments.textContent = state === "streaming" ? call.arguments : pretty(call.arguments);
    this.element.dataset.state = state;
    this.#hint.textContent = { streaming: "writing …", open: "waits for a result", answered: "answered" }[state];
    this.#run.hidden = state !== "open" || builtIn(call.name) === undefined;
    this.result.readOnly = state !== "open";
    this.result.placeholder = this.#run.hidden
      ? "JSON or text that the tool returned"
      : "Run the built-in function, or write a result";
    if (sent !== undefined && state === "answered") this.result.value = sent;
  }

  #runBuiltIn() {
    try {
      const values = this.#call.arguments.trim() ? JSON.parse(this.#call.arguments) : {};
      this.result.value = JSON.stringify(builtIn(this.#call.name)?.(values));
    } catch (error) {
      this.result.value = JSON.stringify({ error: error instanceof Error ? error.message : String(error) });
    }
    this.onInput();
  }
}

/** @param {string} json */
function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
