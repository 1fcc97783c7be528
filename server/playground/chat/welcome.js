import { button, h } from "../dom.js";
import { TEMPLATES } from "../tools.js";

/** @typedef {import("../session.js").Session} Session */

const REAL_MODEL = "lfm-serve serve --model onnx-community/LFM2-8B-A1B-ONNX";

/**
 * Return what an empty conversation shows.
 *
 * @param {Session} session
 * @returns {Node[]}
 */
export function welcome(session) {
  const { model } = session;
  const ask = (/** @type {string} */ question) => () => session.send(question);
  const call = (/** @type {typeof TEMPLATES[number]} */ template) => () => {
    const { settings } = session.conversation;
    settings.useTools = true;
    settings.tools = JSON.stringify(template.tools, null, 2);
    session.changeSettings();
    session.send(template.question);
  };
  return [
    h("h2", {}, model ? `Talk to ${model.id}` : "Talk to the model"),
    h(
      "p",
      {},
      "Messages go to this server only, and conversations stay in this browser. The panel on the right holds every setting of a request and shows what the server received and returned.",
    ),
    ...(model?.built_in ? [builtInNote()] : []),
    h(
      "div",
      { class: "examples" },
      ...(model?.built_in
        ? [button("What are you?", ask("What are you?")), button("How do I stream?", ask("How do I stream?"))]
        : []),
      ...TEMPLATES.map((template) => button(`${template.label} tool: ${template.question}`, call(template))),
    ),
  ];
}

/** Return the note that the built-in model serves, with the command that serves a real one. */
export function builtInNote() {
  return h(
    "div",
    { class: "note" },
    h(
      "p",
      {},
      "This is the built-in demo model: 4 million parameters, for trying out the server. It talks about itself and calls simple tools, and knows next to nothing else. To serve a real model:",
    ),
    h("pre", { tabindex: "0" }, h("code", {}, REAL_MODEL)),
  );
}
