import { h } from "../dom.js";
import { TEMPLATES } from "../tools.js";

/** @typedef {import("../session.js").Session} Session */

const REAL_MODEL = "--model onnx-community/LFM2-8B-A1B-ONNX";
const QUESTIONS = [
  ["The model", "What are you?"],
  ["The server", "How do I stream?"],
];

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
      "Messages go to this server only, and conversations stay in this browser. Settings has the fields of a request, and Inspect shows what the server received and returned.",
    ),
    ...(model?.built_in ? [builtInNote()] : []),
    h(
      "div",
      { class: "suggestions" },
      ...(model?.built_in ? QUESTIONS.map(([title, question]) => suggestion(title, question, ask(question))) : []),
      ...TEMPLATES.map((template) => suggestion(`${template.label} tool`, template.question, call(template))),
    ),
  ];
}

/**
 * @param {string} title
 * @param {string} question
 * @param {() => void} click
 */
function suggestion(title, question, click) {
  const parts = [h("strong", {}, title), " ", h("span", {}, question)];
  return h("button", { type: "button", class: "button suggestion", on: { click } }, ...parts);
}

/** Return the note that the built-in model serves, with the command that serves a real one. */
export function builtInNote() {
  return h(
    "div",
    { class: "note" },
    h(
      "p",
      {},
      "This is the built-in demo model: 4 million parameters, for trying out the server. It talks about itself and calls simple tools, and knows next to nothing else. To serve a real model, a download of 5 GB:",
    ),
    h("pre", { tabindex: "0" }, h("code", {}, `lfm-serve serve ${REAL_MODEL}`)),
    h("p", { class: "hint" }, "In a checkout: ", h("code", {}, `make serve ARGS="${REAL_MODEL}"`)),
  );
}
