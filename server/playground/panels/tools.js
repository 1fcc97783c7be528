/**
 * The panel with the tools of the requests, templates to start from, and how the model may call them.
 */

import { button, byId, fill, h } from "../dom.js";
import { TEMPLATES } from "../tools.js";
import { jsonEditor } from "./editor.js";

/** @typedef {import("../session.js").Session} Session */

/** @param {Session} session */
export function toolsPanel(session) {
  const settings = () => session.conversation.settings;
  const on = h("input", { type: "checkbox", id: "use-tools" });
  const choice = h("select", { id: "tool-choice" });
  const parallel = h("input", { type: "checkbox", id: "parallel-calls" });
  const editor = jsonEditor(
    "tools-json",
    "Definitions (JSON)",
    (text) => {
      settings().tools = text;
      settings().useTools = true;
      session.changeSettings();
    },
    problemOfTools,
  );

  on.addEventListener("change", () => {
    settings().useTools = on.checked;
    session.changeSettings();
  });
  choice.addEventListener("change", () => {
    settings().toolChoice = choice.value;
    session.changeSettings();
  });
  parallel.addEventListener("change", () => {
    settings().parallelCalls = parallel.checked;
    session.changeSettings();
  });

  const use = (/** @type {typeof TEMPLATES[number]} */ template) => () => {
    Object.assign(settings(), { useTools: true, tools: JSON.stringify(template.tools, null, 2), toolChoice: "auto" });
    session.changeSettings();
    const field = byId("prompt", "textarea");
    field.value = template.question;
    field.dispatchEvent(new Event("input"));
  };

  session.on(["settings"], () => {
    on.checked = settings().useTools;
    parallel.checked = settings().parallelCalls;
    editor.show(settings().tools);
    updateChoices(choice, settings().tools, settings().toolChoice);
  });
  fill(
    byId("panel-tools", "div"),
    h("div", { class: "check" }, on, h("label", { for: "use-tools" }, "Send tools with each request")),
    h("p", { class: "heading" }, "Templates"),
    h("div", { class: "examples" }, ...TEMPLATES.map((template) => button(template.label, use(template)))),
    h(
      "p",
      { class: "hint" },
      "A template also brings a question and a built-in function, which runs on this page. Its weather and candidates are invented.",
    ),
    ...editor.nodes,
    h("div", { class: "field" }, h("label", { for: "tool-choice" }, "tool_choice"), choice),
    h(
      "div",
      { class: "check" },
      parallel,
      h("label", { for: "parallel-calls" }, "parallel_tool_calls: allow several calls in one answer"),
    ),
  );
}

/** @param {any} value */
function problemOfTools(value) {
  if (!Array.isArray(value)) return "The tools are a list: [ … ].";
  for (const [index, tool] of value.entries()) {
    const place = `Tool ${index + 1}`;
    if (tool?.type !== "function" && tool?.type !== "custom") return `${place} needs "type": "function".`;
    if (typeof tool[tool.type]?.name !== "string") return `${place} needs a name in "${tool.type}".`;
    const { parameters } = tool[tool.type];
    if (parameters !== undefined && (typeof parameters !== "object" || parameters === null))
      return `${place}: "parameters" is a JSON schema.`;
  }
  return "";
}

/**
 * @param {HTMLSelectElement} select
 * @param {string} tools
 * @param {string} chosen
 */
function updateChoices(select, tools, chosen) {
  const choices = ["auto", "none", "required", ...namesOf(tools).map((name) => `function:${name}`)];
  if (!choices.includes(chosen)) choices.push(chosen);
  fill(select, ...choices.map((each) => h("option", { value: each }, each.replace(/^function:/, "call "))));
  select.value = chosen;
}

/**
 * @param {string} tools
 * @returns {string[]}
 */
function namesOf(tools) {
  try {
    return JSON.parse(tools).map((/** @type {any} */ tool) => tool.function.name);
  } catch {
    return [];
  }
}
