/**
 * Draws the time between the tokens of an answer as it streams.
 */

import { h } from "../dom.js";
import { duration } from "../format.js";

const WIDTH = 320;
const HEIGHT = 72;
const BARS = 160;

export class PaceChart {
  #canvas = h("canvas", { width: WIDTH * 2, height: HEIGHT * 2, role: "img", "aria-label": "Time between tokens" });
  #caption = h("figcaption", { class: "hint" });
  element = h("figure", { class: "chart" }, this.#canvas, this.#caption);

  /** @param {number[]} gaps milliseconds, in order */
  draw(gaps) {
    this.element.hidden = gaps.length === 0;
    if (!gaps.length) return;
    const sorted = [...gaps].sort((one, other) => one - other);
    const at = (/** @type {number} */ share) => sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)];
    const text = `Time between tokens, as they arrive: median ${duration(at(0.5))}, 95 % below ${duration(at(0.95))}, longest ${duration(at(1))}`;
    this.#caption.textContent = text;
    this.#canvas.setAttribute("aria-label", text);
    this.#bars(gaps, at(1));
  }

  /**
   * Draw one bar per token, or the longest of several if there are more tokens than bars.
   *
   * @param {number[]} gaps
   * @param {number} longest
   */
  #bars(gaps, longest) {
    const context = this.#canvas.getContext("2d");
    if (!context) return;
    const { width, height } = this.#canvas;
    const perBar = Math.ceil(gaps.length / BARS);
    const step = width / Math.max(Math.ceil(gaps.length / perBar), 40);
    context.clearRect(0, 0, width, height);
    context.fillStyle = getComputedStyle(this.#canvas).color;
    for (let bar = 0; bar * perBar < gaps.length; bar += 1) {
      const value = Math.max(...gaps.slice(bar * perBar, (bar + 1) * perBar));
      const size = Math.max((value / longest) * height, 2);
      context.fillRect(bar * step, height - size, Math.max(step - 2, 1), size);
    }
  }
}
