import { copyButton } from "../clipboard.js";
import { h, iconButton } from "../dom.js";
import { TurnView } from "./turn_view.js";

/** @typedef {import("../types.js").Turn} Turn */
/** @typedef {import("../session.js").Session} Session */

export class UserTurn extends TurnView {
  /**
   * @param {Session} session
   * @param {Turn} turn
   */
  constructor(session, turn) {
    super(session, turn, "You");
    this.body.append(h("div", { class: "plain" }, turn.content));
    this.actions.append(
      copyButton("Copy message", () => turn.content),
      iconButton("edit", "Edit and resend", () =>
        this.edit("Send", (content) => session.sendBelow(turn.parent, content)),
      ),
      iconButton("branch", "Branch: new conversation up to here", () => session.branch(turn)),
    );
  }

  update() {
    this.updateVersions();
  }
}
