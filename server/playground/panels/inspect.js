/**
 * The panel that shows what happened: an answer's numbers and pace, its prompt as tokens, its request and its events.
 */

import { copyButton } from "../clipboard.js";
import { byId, fill, h, throttled } from "../dom.js";
import { duration, whole } from "../format.js";
import { codeBlock } from "../markdown.js";
import { asCode, requestOf } from "../request.js";
import { PaceChart } from "./pace_chart.js";
import { PromptTokens } from "./prompt_tokens.js";

/** @typedef {import("../types.js").Turn} Turn */
/** @typedef {import("../session.js").Session} Session */

const SHOWN_EVENTS = 200;

/** @param {Session} session */
export function inspectPanel(session) {
  const panel = byId("panel-inspect", "div");
  const tab = byId("tab-inspect", "button");
  const numbers = h("dl", { class: "facts" });
  const chart = new PaceChart();
  const tokens = new PromptTokens(session);
  const request = h("div", {});
  const events = h("div", {});
  const empty = h("p", { class: "hint" }, "Send a message to see what the server received and returned.");
  const sections = h(
    "div",
    {},
    section("Numbers", true, numbers, chart.element),
    section("Prompt as tokens", false, tokens.element),
    section("Request", false, request),
    section("Events", false, events),
  );

  const grow = () => {
    const turn = session.inspected;
    if (panel.hidden || !turn) return;
    fill(
      numbers,
      ...rows(turn).flatMap(([name, value]) => [
        h("dt", {}, name),
        h("dd", {}, name === "Request id" ? h("code", {}, value) : value),
      ]),
    );
    const answer = session.answers.get(turn.id);
    chart.draw(answer?.gaps ?? []);
    if (isOpen(events)) showEvents(events, answer?.events);
  };
  const update = () => {
    const turn = session.inspected;
    empty.hidden = turn !== undefined;
    sections.hidden = turn === undefined;
    if (panel.hidden || !turn) return;
    if (isOpen(tokens.element)) tokens.show(turn);
    if (isOpen(request)) showRequest(request, session, turn);
    grow();
  };
  for (const details of sections.querySelectorAll("details")) details.addEventListener("toggle", update);
  session.on(["turns", "inspected", "running"], update);
  session.on(["inspected"], () => tab.click());
  session.on(["delta"], throttled(grow, 200));
  tab.addEventListener("click", update);
  fill(panel, empty, sections);
}

/** @param {Element} element */
function isOpen(element) {
  return element.closest("details")?.open ?? false;
}

/**
 * @param {string} title
 * @param {boolean} open
 * @param {...Node} children
 */
function section(title, open, ...children) {
  return h("details", { class: "section", open }, h("summary", {}, title), ...children);
}

/**
 * @param {Turn} turn
 * @returns {[string, string][]}
 */
function rows({ numbers = {}, finish, requestId }) {
  const { promptTokens, cachedTokens, answerTokens, reasoningTokens, firstTokenMs, tokensPerSecond, totalMs } = numbers;
  /** @type {[string, string | undefined | false][]} */
  const all = [
    [
      "Prompt",
      promptTokens !== undefined && `${whole(promptTokens)} tokens, ${whole(cachedTokens ?? 0)} from the cache`,
    ],
    [
      "Answer",
      answerTokens !== undefined &&
        `${whole(answerTokens)} tokens${reasoningTokens ? `, ${whole(reasoningTokens)} of them thoughts` : ""}`,
    ],
    ["First token", firstTokenMs !== undefined && duration(firstTokenMs)],
    ["Speed", tokensPerSecond !== undefined && `${tokensPerSecond.toFixed(1)} tokens/s`],
    ["Total", totalMs !== undefined && duration(totalMs)],
    ["Finish reason", finish],
    ["Request id", requestId],
  ];
  return /** @type {[string, string][]} */ (all.filter(([, value]) => value));
}

/**
 * @param {Element} element
 * @param {Session} session
 * @param {Turn} turn
 */
function showRequest(element, session, turn) {
  const body = requestOf(session.conversation, turn);
  const needsKey = Boolean(session.api.key);
  const languages = /** @type {const} */ (["curl", "Python", "JavaScript"]);
  const copies = languages.map((language) =>
    h(
      "span",
      { class: "copy-as" },
      language,
      copyButton(`Copy as ${language}`, () => asCode(language, body, needsKey)),
    ),
  );
  fill(
    element,
    h("div", { class: "copies" }, h("span", { class: "hint" }, "Copy as"), ...copies),
    codeBlock("POST v1/chat/completions", JSON.stringify(body, null, 2)),
  );
}

/**
 * @param {Element} element
 * @param {string[]} [events]
 */
function showEvents(element, events) {
  if (!events) {
    fill(element, h("p", { class: "hint" }, "Events are kept until the page is closed; these are gone."));
    return;
  }
  const hidden = Math.max(events.length - SHOWN_EVENTS, 0);
  const note = hidden
    ? `${whole(events.length)} events, the last ${SHOWN_EVENTS} shown`
    : `${whole(events.length)} events`;
  const text = events
    .slice(hidden)
    .map((data) => `data: ${data}`)
    .join("\n\n");
  let pre = element.querySelector("pre");
  if (!pre) {
    pre = h("pre", { class: "events", tabindex: "0" });
    fill(
      element,
      h(
        "div",
        { class: "copies" },
        h("span", { class: "hint" }),
        copyButton("Copy all events", () => events.map((data) => `data: ${data}\n\n`).join("")),
      ),
      pre,
    );
  }
  pre.textContent = text;
  const hint = element.querySelector(".hint");
  if (hint) hint.textContent = note;
}
