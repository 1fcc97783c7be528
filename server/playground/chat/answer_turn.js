/**
 * Shows an answer: thoughts, text, calls, an error, its numbers and what can be done with it.
 */

import { copyButton } from "../clipboard.js";
import { button, fill, h, iconButton } from "../dom.js";
import { duration, summary } from "../format.js";
import { jsonTree } from "../json_tree.js";
import { codeBlock, MarkdownView } from "../markdown.js";
import { CallCards } from "./call_cards.js";
import { TokenView } from "./token_view.js";
import { TurnView } from "./turn_view.js";

/** @typedef {import("../types.js").Turn} Turn */
/** @typedef {import("../session.js").Session} Session */
/** @typedef {"Text" | "Tree" | "Tokens" | "Source"} Mode */

/** @type {Record<string, string>} */
const ENDS = {
  length: "The answer reached its token limit.",
  stopped: "You stopped the answer.",
};

export class AnswerTurn extends TurnView {
  #thoughts = new Text();
  #summary = h("summary", {});
  #details = h(
    "details",
    { class: "thoughts", hidden: true },
    this.#summary,
    h("div", { class: "plain" }, this.#thoughts),
  );
  #markdown = new MarkdownView();
  #tokens = new TokenView();
  #modes = h("div", { class: "modes", role: "group", "aria-label": "View of the answer" });
  #content = h("div", {}, this.#markdown.element);
  #cards;
  #note = h("div", {});
  #numbers = h("span", { class: "numbers" });
  #mode = /** @type {Mode} */ ("Text");
  #shownModes = "";
  #isTreeWanted;

  /**
   * @param {Session} session
   * @param {Turn} turn
   */
  constructor(session, turn) {
    super(session, turn, "Assistant");
    this.#isTreeWanted = Boolean(turn.sent?.response_format);
    this.#cards = new CallCards(
      (results) => session.sendResults(results),
      () => session.reopenCalls(turn),
    );
    this.body.append(this.#details, this.#modes, this.#content, this.#cards.element, this.#note);
    this.foot.append(this.#numbers);
    this.actions.append(
      copyButton("Copy answer", () => turn.content),
      iconButton("edit", "Edit the answer", () => this.edit("Keep", (content) => session.replaceAnswer(turn, content))),
      iconButton("retry", "Regenerate", () => session.regenerate(turn)),
      iconButton("branch", "Branch: new conversation up to here", () => session.branch(turn)),
    );
    if (turn.sent) this.foot.append(button("Inspect", () => session.inspect(turn), { class: "link" }));
  }

  /**
   * Show the turn as it is now.
   *
   * @param {Map<string, string>} results results of the answer's calls that were sent, by the call's id
   */
  update(results) {
    const isRunning = this.session.running?.answer.turns.includes(this.turn) ?? false;
    this.updateVersions();
    this.grow();
    this.element.setAttribute("aria-busy", String(isRunning));
    this.element.classList.toggle("running", isRunning);
    if (this.turn.calls?.length) {
      const state = isRunning ? "streaming" : results.size ? "answered" : "open";
      this.#cards.update(this.turn.calls, state, results);
    }
    if (!isRunning && this.#isTreeWanted) {
      this.#isTreeWanted = false;
      if (parsed(this.turn.content) !== undefined) this.#show("Tree");
    }
    this.#updateModes(isRunning);
    this.#updateNote(isRunning);
  }

  /** Show what was added to the turn since the last call. */
  grow() {
    const { turn } = this;
    const isRunning = this.session.running?.answer.turns.includes(turn) ?? false;
    if (turn.reasoning) this.#updateThoughts(turn.reasoning, isRunning && !turn.content && !turn.calls?.length);
    if (this.#mode === "Text") this.#markdown.update(turn.content);
    else if (this.#mode === "Tokens") this.#tokens.update(turn.logprobs ?? []);
    if (isRunning && turn.calls?.length) this.#cards.update(turn.calls, "streaming", new Map());
    this.#numbers.textContent = summary(turn.numbers ?? {});
  }

  /**
   * @param {string} text
   * @param {boolean} isThinking
   */
  #updateThoughts(text, isThinking) {
    this.#details.hidden = false;
    const time = duration(this.turn.reasoningMs ?? 0);
    this.#summary.textContent = isThinking ? `Thinking … ${time}` : `Thoughts · ${time}`;
    if (text.length > this.#thoughts.length) this.#thoughts.appendData(text.slice(this.#thoughts.length));
  }

  /** @param {Mode} mode */
  #show(mode) {
    this.#mode = mode;
    this.#shownModes = "";
    const { turn } = this;
    if (mode === "Text") fill(this.#content, this.#markdown.element);
    else if (mode === "Tokens") fill(this.#content, this.#tokens.element);
    else if (mode === "Tree") fill(this.#content, jsonTree(parsed(turn.content)));
    else fill(this.#content, codeBlock("source", turn.content));
    this.grow();
    this.#updateModes(false);
  }

  /** @param {boolean} isRunning */
  #updateModes(isRunning) {
    /** @type {Mode[]} */
    const modes = ["Text"];
    if (this.turn.sent?.response_format && !isRunning && parsed(this.turn.content) !== undefined) modes.unshift("Tree");
    if (this.turn.logprobs?.length && this.turn.content) modes.push("Tokens");
    if (modes.length > 1 && !isRunning) modes.push("Source");
    const shown = modes.length > 1 ? `${modes} ${this.#mode}` : "";
    if (shown === this.#shownModes) return;
    this.#shownModes = shown;
    const made = modes.map((mode) =>
      button(mode, () => this.#show(mode), { class: "button mode", "aria-pressed": String(mode === this.#mode) }),
    );
    fill(this.#modes, ...(shown ? made : []));
  }

  /** @param {boolean} isRunning */
  #updateNote(isRunning) {
    const { failure, finish, content, calls, reasoning } = this.turn;
    const isEmpty = !isRunning && !failure && !content && !calls?.length && !reasoning;
    const end = isRunning ? undefined : ENDS[finish ?? ""];
    fill(
      this.#note,
      failure && this.#failure(failure),
      end && h("p", { class: "hint" }, end),
      isEmpty &&
        finish !== "stopped" &&
        h("p", { class: "hint" }, "The model ended its answer without writing anything."),
    );
  }

  /** @param {import("../types.js").Failure} failure */
  #failure(failure) {
    const id = failure.requestId && h("p", { class: "hint" }, "Request id: ", h("code", {}, failure.requestId));
    const retry = button("Try again", () => this.session.regenerate(this.turn));
    const key = failure.status === 401 && button("Enter the API key", () => this.session.askForKey());
    return h(
      "div",
      { class: "failure", role: "alert" },
      h("p", {}, failure.message),
      id,
      h("div", { class: "edit-actions" }, key, retry),
    );
  }
}

/**
 * @param {string} text
 * @returns {any} undefined if the text is not JSON
 */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
