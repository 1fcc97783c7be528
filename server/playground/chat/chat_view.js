/**
 * Shows the branch of the current conversation, and keeps its end in view while an answer streams.
 */

import { path } from "../conversation.js";
import { announce, arrange, byId, perFrame } from "../dom.js";
import { AnswerTurn } from "./answer_turn.js";
import { UserTurn } from "./user_turn.js";
import { welcome } from "./welcome.js";

/** @typedef {import("../types.js").Turn} Turn */
/** @typedef {import("../session.js").Session} Session */

const NEAR_END = 80; // pixels from the end within which the view follows the answer
const SHARE = 3; // after a slow frame, wait this many times as long, so that input is handled in between

export class ChatView {
  #list = byId("turns", "ol");
  #scroller = byId("chat", "main");
  #empty = byId("welcome", "div");
  #views = /** @type {Map<string, UserTurn | AnswerTurn>} */ (new Map());
  #conversationId = "";
  #notBefore = 0;

  /** @param {Session} session */
  constructor(session) {
    this.session = session;
    session.on(["turns", "running"], () => this.update());
    session.on(["model", "settings", "turns"], () => this.#updateWelcome());
    session.on(
      ["delta"],
      perFrame(() => this.#grow()),
    );
    toEndButton(this.#scroller, () => this.#toEnd());
    session.on(["running"], () => announce(session.running ? "The answer begins." : "The answer has ended."));
  }

  update() {
    const { conversation } = this.session;
    if (this.#conversationId !== conversation.id) {
      this.#views.clear();
      this.#conversationId = conversation.id;
    }
    const turns = path(conversation);
    const results = new Map(
      turns.filter((turn) => turn.role === "tool").map((turn) => [turn.callId ?? "", turn.content]),
    );
    const shown = turns.filter((turn) => turn.role !== "tool");
    const follows = this.#isAtEnd();
    arrange(
      this.#list,
      shown.map((turn) => this.#view(turn, results).element),
    );
    if (follows) this.#toEnd();
  }

  /**
   * @param {Turn} turn
   * @param {Map<string, string>} results
   */
  #view(turn, results) {
    let view = this.#views.get(turn.id);
    if (!view) {
      view = turn.role === "user" ? new UserTurn(this.session, turn) : new AnswerTurn(this.session, turn);
      this.#views.set(turn.id, view);
    }
    const own = new Map((turn.calls ?? []).flatMap(({ id }) => (results.has(id) ? [[id, results.get(id) ?? ""]] : [])));
    view.update(own);
    return view;
  }

  /** Show what has been added to the answer that streams. */
  #grow() {
    const { running, conversation } = this.session;
    if (running?.conversation !== conversation) return;
    const begun = performance.now();
    if (begun < this.#notBefore) {
      this.#later();
      return;
    }
    const follows = this.#isAtEnd();
    for (const turn of running.answer.turns) {
      const view = this.#views.get(turn.id);
      if (view instanceof AnswerTurn && view.element.isConnected) view.grow();
    }
    if (follows) this.#toEnd();
    const ended = performance.now();
    this.#notBefore = ended + (ended - begun) * SHARE;
  }

  #later = perFrame(() => this.#grow());

  #isAtEnd() {
    const { scrollTop, clientHeight, scrollHeight } = this.#scroller;
    return scrollTop + clientHeight > scrollHeight - NEAR_END;
  }

  #toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  #updateWelcome() {
    this.#empty.hidden = this.session.conversation.leaf !== null;
    if (!this.#empty.hidden) this.#empty.replaceChildren(...welcome(this.session));
  }
}

/**
 * Show the button that jumps to the end while the end is out of view.
 *
 * @param {Element} scroller
 * @param {() => void} toEnd
 */
function toEndButton(scroller, toEnd) {
  const jump = byId("to-end", "button");
  jump.addEventListener("click", toEnd);
  const options = { root: scroller, rootMargin: `0px 0px ${NEAR_END}px` };
  const update = (/** @type {IntersectionObserverEntry[]} */ entries) => {
    jump.hidden = entries[entries.length - 1].isIntersecting;
  };
  new IntersectionObserver(update, options).observe(byId("end", "div"));
}
