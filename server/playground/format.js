/** @typedef {import("./types.js").Numbers} Numbers */

/** @param {number} ms */
export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000
    ? `${(ms / 1000).toFixed(1)} s`
    : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** @param {number} value */
export function whole(value) {
  return Math.round(value).toLocaleString("en");
}

/** @param {number} bytes */
export function mebibytes(bytes) {
  return `${(bytes / 2 ** 20).toLocaleString("en", { maximumFractionDigits: 1 })} MiB`;
}

/**
 * Return an answer's measurements in one line.
 *
 * @param {Numbers} numbers
 */
export function summary(numbers) {
  const parts = [];
  if (numbers.promptTokens !== undefined) {
    parts.push(`${whole(numbers.promptTokens)} in (${whole(numbers.cachedTokens ?? 0)} cached)`);
  }
  if (numbers.answerTokens !== undefined) parts.push(`${whole(numbers.answerTokens)} out`);
  if (numbers.firstTokenMs !== undefined) parts.push(`first token ${duration(numbers.firstTokenMs)}`);
  if (numbers.tokensPerSecond !== undefined) parts.push(`${whole(numbers.tokensPerSecond)} tokens/s`);
  return parts.join(" · ");
}
