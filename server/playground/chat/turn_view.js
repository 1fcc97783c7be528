/**
 * What the views of all turns have in common: a head with the role and the versions, a body, and an editor.
 */

import { versions } from "../conversation.js";
import { button, fill, h, iconButton } from "../dom.js";

/** @typedef {import("../types.js").Turn} Turn */
/** @typedef {import("../session.js").Session} Session */

export class TurnView {
  #versions = h("span", { class: "versions" });
  #shownVersions = "";
  actions = h("div", { class: "turn-actions" });
  body = h("div", { class: "turn-body" });
  foot = h("div", { class: "turn-foot" });
  element;

  /**
   * @param {Session} session
   * @param {Turn} turn
   * @param {string} role the role in words
   */
  constructor(session, turn, role) {
    this.session = session;
    this.turn = turn;
    const head = h("div", { class: "turn-head" }, h("h3", {}, role), this.#versions, this.actions);
    this.element = h("li", { class: `turn ${turn.role}` }, head, this.body, this.foot);
  }

  /** Show the versions of the turn, with buttons to go from one to the next. */
  updateVersions() {
    const all = versions(this.session.conversation, this.turn);
    const at = all.indexOf(this.turn);
    const shown = all.length > 1 ? `${at + 1} / ${all.length}` : "";
    if (shown === this.#shownVersions) return;
    this.#shownVersions = shown;
    const go = (/** @type {number} */ index) => this.session.showVersion(all[index]);
    const previous = iconButton("chevronLeft", "Previous version", () => go(at - 1));
    const next = iconButton("chevronRight", "Next version", () => go(at + 1));
    previous.disabled = at === 0;
    next.disabled = at === all.length - 1;
    fill(
      this.#versions,
      ...(shown ? [previous, h("span", { "aria-label": `Version ${at + 1} of ${all.length}` }, shown), next] : []),
    );
  }

  /**
   * Put an editor in place of the body.
   *
   * @param {string} action label of the button that ends it
   * @param {(content: string) => void} done
   */
  edit(action, done) {
    const area = h("textarea", { class: "edit", "aria-label": "Edit the message", rows: 3 });
    area.value = this.turn.content;
    const shown = [...this.body.childNodes];
    const close = () => fill(this.body, ...shown);
    const submit = () => {
      close();
      done(area.value);
    };
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      }
    });
    const buttons = h(
      "div",
      { class: "edit-actions" },
      button(action, submit, { class: "button primary" }),
      button("Cancel", close),
    );
    fill(this.body, area, buttons);
    area.focus();
  }
}
