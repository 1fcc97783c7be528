/**
 * The panel with the system prompt and every sampling parameter, its range and its default.
 */

import { button, byId, fill, h } from "../dom.js";
import { GROUPS } from "../settings.js";

/** @typedef {import("../session.js").Session} Session */
/** @typedef {import("../settings.js").Parameter} Parameter */

/** @param {Session} session */
export function parametersPanel(session) {
  const panel = byId("panel-settings", "div");
  const system = h("textarea", { id: "system-prompt", rows: 3, placeholder: "None" });
  const reset = button("Reset to the model's", () => session.resetParameters());
  const fields = GROUPS.map(({ title, parameters }) => ({
    title,
    made: parameters.map((each) => new Field(session, each)),
  }));
  system.addEventListener("input", () => {
    session.conversation.settings.system = system.value;
    session.changeSettings();
  });
  const update = () => {
    const { settings } = session.conversation;
    if (system.value !== settings.system) system.value = settings.system;
    reset.disabled = !Object.keys(settings.parameters).length;
    for (const { made } of fields) for (const field of made) field.update();
  };
  session.on(["settings", "model"], update);
  fill(
    panel,
    h("label", { for: "system-prompt", class: "heading" }, "System prompt"),
    system,
    h("p", { class: "hint" }, "An empty field is left out of the request: the default shown in it applies."),
    reset,
    ...fields.map(({ title, made }) =>
      h("fieldset", {}, h("legend", {}, title), ...made.map((field) => field.element)),
    ),
    logprobsField(session),
  );
}

class Field {
  #input;
  /** The settings that the field shows. @type {Record<string, any> | null} */
  #shown = null;
  #problem = h("span", { class: "problem" });
  element;

  /**
   * @param {Session} session
   * @param {Parameter} parameter
   */
  constructor(session, parameter) {
    this.session = session;
    this.parameter = parameter;
    const id = `parameter-${parameter.name}`;
    this.#input = control(parameter, id);
    this.#input.addEventListener("input", () => this.#change());
    const help = h("p", { class: "help", id: `${id}-help` }, parameter.help, this.#problem);
    const range = h("span", { class: "range" }, rangeOf(parameter));
    this.element = h(
      "div",
      { class: `field ${parameter.kind}` },
      h("label", { for: id }, parameter.name),
      range,
      this.#input,
      help,
    );
  }

  /** Show the value that is set, and the default in its place if none is. A text that is invalid stays. */
  update() {
    const { parameters } = this.session.conversation.settings;
    const value = parameters[this.parameter.name];
    const fallback = String(this.session.model?.sampling_defaults[this.parameter.name] ?? this.parameter.unset ?? "");
    if (this.#input instanceof HTMLSelectElement) this.#input.options[0].textContent = `default (${fallback})`;
    else this.#input.placeholder = fallback;
    if (document.activeElement === this.#input && value !== undefined) return;
    if (parameters === this.#shown && this.#input.getAttribute("aria-invalid") === "true") return;
    this.#shown = parameters;
    this.#input.value = shown(value);
    this.#mark("");
  }

  #change() {
    const { parameters } = this.session.conversation.settings;
    const [value, problem] = this.#input.validity.badInput
      ? [undefined, "not a number"]
      : read(this.parameter, this.#input.value);
    this.#mark(problem);
    if (value === undefined) delete parameters[this.parameter.name];
    else parameters[this.parameter.name] = value;
    if (!problem) this.session.changeSettings();
  }

  /** @param {string} problem */
  #mark(problem) {
    this.#input.setAttribute("aria-invalid", String(Boolean(problem)));
    this.#problem.textContent = problem ? ` – ${problem}, not sent` : "";
  }
}

/**
 * @param {Parameter} parameter
 * @param {string} id
 */
function control({ kind, min, max, step, choices }, id) {
  const common = { id, "aria-describedby": `${id}-help` };
  if (kind === "boolean" || kind === "choice") {
    const options = kind === "boolean" ? ["true", "false"] : (choices ?? []);
    return h(
      "select",
      common,
      h("option", { value: "" }, "default"),
      ...options.map((each) => h("option", { value: each }, each)),
    );
  }
  if (kind === "lines" || kind === "json") return h("textarea", { ...common, rows: 1, spellcheck: "false" });
  if (kind === "number" || kind === "integer")
    return h("input", { ...common, type: "number", min, max, step: step ?? 1 });
  return h("input", { ...common, type: "text", spellcheck: "false" });
}

/** @param {Parameter} parameter */
function rangeOf({ min, max }) {
  if (min !== undefined && max !== undefined) return `${min} to ${max}`;
  return min === undefined ? "" : `from ${min}`;
}

/**
 * Return a field's value, undefined if it is unset or invalid, and what is wrong with it.
 *
 * @param {Parameter} parameter
 * @param {string} text
 * @returns {[any, string]}
 */
function read({ kind, min, max }, text) {
  if (!text.trim()) return [undefined, ""];
  if (kind === "boolean") return [text === "true", ""];
  if (kind === "choice" || kind === "text") return [text, ""];
  if (kind === "lines") return [text.split("\n").filter(Boolean), ""];
  if (kind === "integers") {
    const ids = text
      .split(",")
      .map((part) => part.trim())
      .filter(Boolean)
      .map(Number);
    return ids.every(Number.isSafeInteger) ? [ids, ""] : [undefined, "not a list of whole numbers"];
  }
  if (kind === "json") {
    try {
      return [JSON.parse(text), ""];
    } catch {
      return [undefined, "not JSON"];
    }
  }
  const value = Number(text);
  if (kind === "integer" && !Number.isSafeInteger(value)) return [undefined, "not a whole number"];
  if ((min !== undefined && value < min) || (max !== undefined && value > max)) return [undefined, "out of range"];
  return [value, ""];
}

/** @param {any} value */
function shown(value) {
  if (value === undefined) return "";
  if (Array.isArray(value)) return value.join(typeof value[0] === "number" ? ", " : "\n");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** @param {Session} session */
function logprobsField(session) {
  const on = h("input", { type: "checkbox", id: "use-logprobs" });
  const top = h("input", { type: "number", id: "top-logprobs", min: 0, max: 20, value: 5 });
  const change = () => {
    session.conversation.settings.topLogprobs = on.checked
      ? Math.min(Math.max(Math.round(Number(top.value)), 0), 20)
      : null;
    session.changeSettings();
  };
  on.addEventListener("change", change);
  top.addEventListener("change", change);
  session.on(["settings"], () => {
    const { topLogprobs } = session.conversation.settings;
    on.checked = topLogprobs !== null;
    if (topLogprobs !== null) top.value = String(topLogprobs);
    top.disabled = topLogprobs === null;
  });
  return h(
    "fieldset",
    {},
    h("legend", {}, "Log-probabilities"),
    h("div", { class: "check" }, on, h("label", { for: "use-logprobs" }, "Return the log-probability of each token")),
    h(
      "div",
      { class: "field" },
      h("label", { for: "top-logprobs" }, "top_logprobs"),
      h("span", { class: "range" }, "0 to 20"),
      top,
      h("p", { class: "help" }, "alternatives per token; the answer then has a view “Tokens”"),
    ),
  );
}
