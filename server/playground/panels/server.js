/**
 * The server's state: a line in the header that is always there, and a panel with the facts behind it.
 */

import { builtInNote } from "../chat/welcome.js";
import { byId, fill, h } from "../dom.js";
import { mebibytes, whole } from "../format.js";

/** @typedef {import("../session.js").Session} Session */

const POLL_MS = 5000;
const POLL_AWAY_MS = 1000;
const METRICS_MS = 2000;

/** @param {Session} session */
export function serverPanel(session) {
  const status = byId("status", "button");
  const text = byId("status-text", "span");
  let wasReady = false;

  const update = async () => {
    const { ready, detail } = await session.api.readiness();
    status.dataset.state = ready ? "ready" : "away";
    text.textContent = [detail, ready && shownModel(session)].filter(Boolean).join(" · ");
    const hasChanged = ready !== wasReady;
    wasReady = ready;
    if (ready && hasChanged) await session.loadModel(session.model?.id).catch(() => {});
    if (hasChanged) await facts(session);
  };
  const check = () => update().finally(() => setTimeout(check, wasReady || document.hidden ? POLL_MS : POLL_AWAY_MS));
  session.on(["model"], () => {
    text.textContent = ["Ready", shownModel(session)].filter(Boolean).join(" · ");
    facts(session);
  });
  setInterval(() => {
    if (!byId("panel-server", "div").hidden && !document.hidden && wasReady) facts(session);
  }, METRICS_MS);
  check();
}

/** @param {Session} session */
function shownModel({ model }) {
  return model && `${model.id}${model.built_in ? " (built-in)" : ""}`;
}

/**
 * Show the facts in the panel.
 *
 * @param {Session} session
 */
async function facts(session) {
  const { model } = session;
  const metrics = await session.api.metrics().then(samples, () => null);
  const info = metrics?.labels.lfm_model_info ?? {};
  const value = (/** @type {string} */ name) => metrics?.values[name] ?? 0;
  const share = value("lfm_prefix_cache_hit_tokens_total") / value("lfm_prefix_cache_queried_tokens_total");
  /** @type {[string, string | undefined][]} */
  const rows = [
    ["Model", session.modelNames.join(", ") || undefined],
    ["dtype", info.dtype],
    ["Kernels", info.kernels && `${info.kernels}, ${info.precision}, threads: ${info.threads}`],
    ["Context", model ? `${whole(model.max_model_len)} tokens` : undefined],
    ["Sampling defaults", model ? defaultsOf(model.sampling_defaults) : undefined],
  ];
  if (metrics) {
    rows.push(
      ["Slots", `${whole(value("lfm_requests_running"))} of ${whole(value("lfm_slots"))} in use`],
      ["Queue", `${whole(value("lfm_requests_waiting"))} waiting, ${whole(value("lfm_waiting_tokens"))} tokens`],
      [
        "Prefix cache",
        `${mebibytes(value("lfm_prefix_cache_bytes"))} of ${mebibytes(value("lfm_prefix_cache_bytes_budget"))}, ${whole(value("lfm_prefix_cache_tokens"))} tokens`,
      ],
      [
        "Found in the cache",
        Number.isFinite(share) ? `${(share * 100).toFixed(0)} % of prompt tokens` : "no prompts yet",
      ],
      ["Version", metrics.labels.lfm_build_info?.version],
    );
  }
  fill(
    byId("panel-server", "div"),
    model?.built_in && builtInNote(),
    h(
      "dl",
      { class: "facts" },
      ...rows.flatMap(([name, text]) => (text ? [h("dt", {}, name), h("dd", {}, text)] : [])),
    ),
    !metrics && h("p", { class: "hint" }, "/metrics cannot be read here, so slots, queue and cache are not shown."),
    h(
      "p",
      { class: "hint" },
      "Reference: ",
      h("a", { href: "docs", target: "_blank", rel: "noopener" }, "/docs"),
      " lists every route and field.",
    ),
  );
}

/** @param {Record<string, number>} defaults */
function defaultsOf(defaults) {
  return Object.entries(defaults)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
}

/**
 * Return the samples of Prometheus' text format: values by name, added over labels, and the labels of info metrics.
 *
 * @param {string} text
 */
function samples(text) {
  /** @type {Record<string, number>} */
  const values = {};
  /** @type {Record<string, Record<string, string>>} */
  const labels = {};
  for (const [, name, inner, value] of text.matchAll(/^(lfm_\w+)(?:\{(.*)\})? (\S+)$/gm)) {
    values[name] = (values[name] ?? 0) + Number(value);
    if (inner)
      labels[name] = Object.fromEntries([...inner.matchAll(/(\w+)="([^"]*)"/g)].map((pair) => [pair[1], pair[2]]));
  }
  return { values, labels };
}
