/**
 * The settings of a conversation, and the request body they make.
 */

import { TEMPLATES } from "./tools.js";

/** @typedef {import("./types.js").Settings} Settings */
/** @typedef {import("./types.js").Body} Body */

/**
 * @typedef {object} Parameter A field of the request.
 * @property {string} name
 * @property {"number" | "integer" | "boolean" | "choice" | "text" | "lines" | "integers" | "json"} kind
 * @property {string} help
 * @property {number} [min]
 * @property {number} [max]
 * @property {number} [step]
 * @property {string[]} [choices]
 * @property {string} [unset] what applies if the request leaves the field out and the model has no default of its own
 */

/** @type {{title: string, parameters: Parameter[]}[]} */
export const GROUPS = [
  {
    title: "Sampling",
    parameters: [
      {
        name: "temperature",
        kind: "number",
        min: 0,
        max: 2,
        step: 0.05,
        unset: "1",
        help: "0 always takes the most likely token",
      },
      {
        name: "top_p",
        kind: "number",
        min: 0,
        max: 1,
        step: 0.01,
        unset: "1",
        help: "keep the most likely tokens with this total probability",
      },
      {
        name: "top_k",
        kind: "integer",
        min: -1,
        unset: "off",
        help: "keep this many of the most likely tokens; 0 or -1 is off",
      },
      {
        name: "min_p",
        kind: "number",
        min: 0,
        max: 1,
        step: 0.01,
        unset: "0",
        help: "drop tokens below this share of the most likely one",
      },
      {
        name: "repetition_penalty",
        kind: "number",
        min: 0.01,
        max: 10,
        step: 0.01,
        unset: "1",
        help: "above 1, tokens already in the prompt or answer are less likely",
      },
      {
        name: "frequency_penalty",
        kind: "number",
        min: -2,
        max: 2,
        step: 0.1,
        unset: "0",
        help: "lowers a token for each time it is in the answer",
      },
      {
        name: "presence_penalty",
        kind: "number",
        min: -2,
        max: 2,
        step: 0.1,
        unset: "0",
        help: "lowers tokens that are in the answer",
      },
      {
        name: "logit_bias",
        kind: "json",
        unset: "none",
        help: 'JSON from token id to a number from -100 to 100, such as {"42": -100}',
      },
      { name: "seed", kind: "integer", unset: "random", help: "the same seed and request give the same answer" },
      {
        name: "n",
        kind: "integer",
        min: 1,
        max: 128,
        unset: "1",
        help: "number of answers; the server sets its own maximum",
      },
    ],
  },
  {
    title: "Length",
    parameters: [
      {
        name: "max_completion_tokens",
        kind: "integer",
        min: 1,
        unset: "context",
        help: "maximum tokens in the answer; by default, the rest of the context",
      },
      { name: "min_tokens", kind: "integer", min: 0, unset: "0", help: "the answer does not end by itself before" },
      { name: "stop", kind: "lines", unset: "none", help: "up to 4 strings that end the answer, one per line" },
      {
        name: "stop_token_ids",
        kind: "integers",
        unset: "none",
        help: "ids of tokens that end the answer, separated by commas",
      },
      { name: "ignore_eos", kind: "boolean", unset: "off", help: "continue after the end token" },
    ],
  },
  {
    title: "Thinking",
    parameters: [
      {
        name: "thinking_token_budget",
        kind: "integer",
        min: 0,
        unset: "the server's",
        help: "most tokens of thoughts; no effect if the model does not think",
      },
      {
        name: "reasoning_effort",
        kind: "choice",
        choices: ["none", "minimal", "low", "medium", "high", "xhigh", "max"],
        unset: "no budget",
        help: "a budget by name; the number above comes first",
      },
      { name: "include_reasoning", kind: "boolean", unset: "on", help: "return the thoughts" },
    ],
  },
  {
    title: "Other",
    parameters: [
      { name: "skip_special_tokens", kind: "boolean", unset: "on", help: "leave special tokens out of the text" },
      { name: "priority", kind: "integer", unset: "0", help: "order among your own waiting requests, lowest first" },
      {
        name: "cache_salt",
        kind: "text",
        unset: "none",
        help: "share cached prefixes only with requests of the same salt",
      },
    ],
  },
];

const SCHEMA = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 40 },
    age: { type: "integer", minimum: 0, maximum: 150 },
  },
  required: ["name", "age"],
  additionalProperties: false,
};

/** @returns {Settings} */
export function defaultSettings() {
  return {
    system: "",
    parameters: {},
    useTools: false,
    tools: JSON.stringify(TEMPLATES[0].tools, null, 2),
    toolChoice: "auto",
    parallelCalls: true,
    useSchema: false,
    schema: JSON.stringify(SCHEMA, null, 2),
    topLogprobs: null,
  };
}

/**
 * Return `value` as settings. What is missing or of the wrong type gets its default.
 *
 * @param {any} value
 * @returns {Settings}
 */
export function completeSettings(value) {
  const defaults = defaultSettings();
  const { topLogprobs, ...others } = defaults;
  /** @type {Record<string, any>} */
  const settings = { topLogprobs: typeof value?.topLogprobs === "number" ? value.topLogprobs : topLogprobs };
  for (const [key, fallback] of Object.entries(others)) {
    settings[key] = typeof value?.[key] === typeof fallback && value[key] !== null ? value[key] : fallback;
  }
  return /** @type {Settings} */ (settings);
}

/**
 * Return the request body that `settings` make, without messages. Throws an Error that says which editor holds
 * invalid JSON.
 *
 * @param {Settings} settings
 * @param {string | undefined} model undefined requests the default model
 * @returns {Body}
 */
export function bodyOf(settings, model) {
  /** @type {Body} */
  const body = {
    model,
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
    ...settings.parameters,
  };
  if (settings.useTools) {
    body.tools = parsed("Tools", settings.tools);
    const [kind, name] = settings.toolChoice.split(/:(.*)/s);
    if (kind === "function") body.tool_choice = { type: "function", function: { name } };
    else if (kind !== "auto") body.tool_choice = kind;
    if (!settings.parallelCalls) body.parallel_tool_calls = false;
  }
  if (settings.useSchema) {
    const schema = parsed("Schema", settings.schema);
    body.response_format = { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
  }
  if (settings.topLogprobs !== null) {
    body.logprobs = true;
    body.top_logprobs = settings.topLogprobs;
  }
  return body;
}

/**
 * @param {string} editor
 * @param {string} text
 */
function parsed(editor, text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${editor}: ${error instanceof Error ? error.message : error}`);
  }
}
