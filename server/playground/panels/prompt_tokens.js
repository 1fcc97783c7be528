/**
 * Shows the prompt of a request as the model sees it: rendered by the chat template and cut into tokens.
 */

import { fill, h, tokenClass } from "../dom.js";
import { whole } from "../format.js";
import { requestOf } from "../request.js";

/** @typedef {import("../types.js").Turn} Turn */
/** @typedef {import("../session.js").Session} Session */

const PER_FRAME = 500;
const MAX_SHOWN = 20_000;

export class PromptTokens {
  #turn = /** @type {Turn | null} */ (null);
  #tokens = h("div", { class: "tokens prompt-tokens" });
  #note = h("p", { class: "hint" });
  element = h("div", { class: "prompt" }, this.#note, this.#tokens);

  /** @param {Session} session */
  constructor(session) {
    this.session = session;
  }

  /**
   * Show the tokens of the request that made an answer. Does nothing if they are shown already.
   *
   * @param {Turn} turn
   */
  async show(turn) {
    if (turn === this.#turn) return;
    this.#turn = turn;
    fill(this.#tokens);
    this.#note.textContent = "";
    const { stream, stream_options, ...body } = requestOf(this.session.conversation, turn);
    try {
      const { count, max_model_len, tokens, token_strs } = await this.session.api.tokenize(body);
      if (turn !== this.#turn) return;
      this.#note.textContent = `${whole(count)} of ${whole(max_model_len)} tokens of the context. Point at a token to see its id.`;
      this.#append(turn, token_strs.slice(0, MAX_SHOWN), tokens, 0);
    } catch (error) {
      this.#note.textContent = error instanceof Error ? error.message : String(error);
    }
  }

  /**
   * Append tokens over several frames, so that the page stays responsive.
   *
   * @type {(turn: Turn, texts: string[], ids: number[], from: number) => void}
   */
  #append(turn, texts, ids, from) {
    if (turn !== this.#turn || from >= texts.length) return;
    const spans = texts.slice(from, from + PER_FRAME).map((text, index) => {
      const id = ids[from + index];
      const kind = /^<\|.*\|>$/.test(text) ? "special" : `t${(from + index) % 4}`;
      return h("span", { class: tokenClass(text, kind), title: `id ${id}` }, text);
    });
    this.#tokens.append(...spans);
    requestAnimationFrame(() => this.#append(turn, texts, ids, from + PER_FRAME));
  }
}
