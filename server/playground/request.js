/**
 * Requests: the messages of a branch, and the same request as code.
 */

import { address } from "./api.js";
import { path } from "./conversation.js";

/** @typedef {import("./types.js").Turn} Turn */
/** @typedef {import("./types.js").Body} Body */
/** @typedef {import("./types.js").Conversation} Conversation */

/**
 * Return the messages of a branch in the API's form.
 *
 * @param {Turn[]} turns
 * @param {string} system
 * @returns {Body[]}
 */
export function messages(turns, system) {
  const sent = turns.filter(
    (turn) => turn.role !== "assistant" || turn.content || turn.calls?.length || turn.reasoning,
  );
  return [...(system.trim() ? [{ role: "system", content: system }] : []), ...sent.map(message)];
}

/**
 * @param {Turn} turn
 * @returns {Body}
 */
function message(turn) {
  if (turn.role === "tool") return { role: "tool", tool_call_id: turn.callId, content: turn.content };
  if (turn.role === "user") return { role: "user", content: turn.content };
  /** @type {Body} */
  const made = { role: "assistant", content: turn.content || null };
  if (turn.reasoning) made.reasoning_content = turn.reasoning;
  if (turn.calls?.length) {
    made.tool_calls = turn.calls.map(({ id, name, arguments: text }) => ({
      id,
      type: "function",
      function: { name, arguments: text },
    }));
  }
  return made;
}

/**
 * Return the request that made an answer.
 *
 * @param {Conversation} conversation
 * @param {Turn} answer
 * @returns {Body}
 */
export function requestOf(conversation, answer) {
  const { model, ...others } = answer.sent ?? {};
  return { model, messages: messages(path(conversation, answer.parent), answer.system ?? ""), ...others };
}

/** @typedef {"curl" | "Python" | "JavaScript"} Language */

/**
 * Return a program that sends this request. The key is read from LFM_API_KEY and is never part of the text.
 *
 * @param {Language} language
 * @param {Body} body
 * @param {boolean} needsKey
 */
export function asCode(language, body, needsKey) {
  return { curl, Python: python, JavaScript: javascript }[language](body, needsKey);
}

/** @type {(body: Body, needsKey: boolean) => string} */
function curl(body, needsKey) {
  const json = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  const key = needsKey ? '  -H "Authorization: Bearer $LFM_API_KEY" \\\n' : "";
  return `curl -N '${address("v1/chat/completions")}' \\\n  -H 'Content-Type: application/json' \\\n${key}  -d '${json}'\n`;
}

/** Fields that the OpenAI SDK for Python takes as arguments; it sends the others through `extra_body`. */
const SDK_FIELDS = new Set([
  "model",
  "messages",
  "stream",
  "stream_options",
  "temperature",
  "top_p",
  "frequency_penalty",
  "presence_penalty",
  "logit_bias",
  "seed",
  "n",
  "max_completion_tokens",
  "stop",
  "reasoning_effort",
  "tools",
  "tool_choice",
  "parallel_tool_calls",
  "response_format",
  "logprobs",
  "top_logprobs",
]);

/** @type {(body: Body, needsKey: boolean) => string} */
function python(body, needsKey) {
  const known = Object.entries(body).filter(([name]) => SDK_FIELDS.has(name));
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => !SDK_FIELDS.has(name)));
  const values = known.map(([name, value]) => `    ${name}=${literal(value, 1)},\n`).join("");
  const more = Object.keys(extra).length ? `    extra_body=${literal(extra, 1)},\n` : "";
  return `${needsKey ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url="${address("v1")}", api_key=${needsKey ? 'os.environ["LFM_API_KEY"]' : '"none"'})

stream = client.chat.completions.create(
${values}${more})
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
`;
}

/**
 * Return a JSON value as a Python literal.
 *
 * @param {any} value
 * @param {number} depth
 * @returns {string}
 */
function literal(value, depth) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value !== "object") return String(value);
  const isList = Array.isArray(value);
  const parts = isList
    ? value.map((each) => literal(each, depth + 1))
    : Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}: ${literal(each, depth + 1)}`);
  if (!parts.length) return isList ? "[]" : "{}";
  const indent = "    ".repeat(depth);
  const inner = parts.map((part) => `${indent}    ${part},\n`).join("");
  return `${isList ? "[" : "{"}\n${inner}${indent}${isList ? "]" : "}"}`;
}

/** @type {(body: Body, needsKey: boolean) => string} */
function javascript(body, needsKey) {
  return `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${address("v1")}", apiKey: ${needsKey ? "process.env.LFM_API_KEY" : '"none"'} });

const stream = await client.chat.completions.create(${JSON.stringify(body, null, 2)});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}
console.log();
`;
}
