/**
 * The panel with the JSON schema that answers must match.
 */

import { byId, fill, h } from "../dom.js";
import { problemOfSchema } from "../schema.js";
import { jsonEditor } from "./editor.js";

/** @typedef {import("../session.js").Session} Session */

/** @param {Session} session */
export function outputPanel(session) {
  const settings = () => session.conversation.settings;
  const on = h("input", { type: "checkbox", id: "use-schema" });
  const editor = jsonEditor(
    "schema-json",
    "JSON schema",
    (text) => {
      settings().schema = text;
      session.changeSettings();
    },
    problemOfSchema,
  );
  on.addEventListener("change", () => {
    settings().useSchema = on.checked;
    session.changeSettings();
  });
  session.on(["settings"], () => {
    on.checked = settings().useSchema;
    editor.show(settings().schema);
  });
  fill(
    byId("panel-output", "div"),
    h("div", { class: "check" }, on, h("label", { for: "use-schema" }, "Enforce a JSON schema on each answer")),
    h(
      "p",
      { class: "hint" },
      "The server masks every token that would break the schema, so a finished answer always matches. It is shown as a tree.",
    ),
    ...editor.nodes,
  );
}
