/**
 * Builds DOM nodes. Strings always become text nodes: nothing on the page is ever parsed as markup.
 */

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * Create an element.
 *
 * Attributes that are null, undefined or false are left out; true sets an empty attribute. `on` maps event names to
 * listeners.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {{on?: Record<string, (event: any) => void>} & Record<string, any>} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, { on = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...present(children));
  return element;
}

/**
 * Replace all children of `parent`.
 *
 * @param {Element} parent
 * @param {...Child} children
 */
export function fill(parent, ...children) {
  parent.replaceChildren(...present(children));
}

/**
 * Make `nodes` the children of `parent`. Nodes that are in place already keep their focus and their scroll position.
 *
 * @param {Element} parent
 * @param {Element[]} nodes
 */
export function arrange(parent, nodes) {
  const kept = new Set(nodes);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  nodes.forEach((node, index) => {
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
}

/**
 * @param {Child[]} children
 * @returns {(Node | string)[]}
 */
function present(children) {
  return /** @type {(Node | string)[]} */ (
    children.filter((child) => child !== null && child !== undefined && child !== false)
  );
}

/**
 * Return the element with this id. Throws if there is none or it has another tag.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {string} id
 * @param {T} tag
 * @returns {HTMLElementTagNameMap[T]}
 */
export function byId(id, tag) {
  const element = document.getElementById(id);
  if (element === null || element.localName !== tag) throw new Error(`The page has no <${tag} id="${id}">.`);
  return /** @type {HTMLElementTagNameMap[T]} */ (element);
}

const SVG = "http://www.w3.org/2000/svg";

/** Paths on a grid of 24, drawn as lines. */
const ICONS = {
  branch: "M6 4v9a4 4 0 0 0 4 4h8M14 13l4 4-4 4M6 4v16",
  check: "M5 12l5 5 9-10",
  chevronLeft: "M14 6l-6 6 6 6",
  chevronRight: "M10 6l6 6-6 6",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  edit: "M4 20l1-5L16 4l4 4L9 19z",
  end: "M12 4v15M6 13l6 6 6-6",
  key: "M3 12a4 4 0 1 0 8 0a4 4 0 1 0-8 0M11 12h10M17 12v4M21 12v3",
  menu: "M4 7h16M4 12h16M4 17h16",
  moon: "M20 14A8 8 0 1 1 10 4a6.5 6.5 0 0 0 10 10z",
  plus: "M12 5v14M5 12h14",
  retry: "M4 12a8 8 0 1 1 2.5 5.8M4 19v-5h5",
  send: "M12 20V5M6 11l6-6 6 6",
  sliders: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
  stop: "M6 6h12v12H6z",
  sun: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8M12 3v1M12 20v1M3 12h1M20 12h1M5.6 5.6l.8.8M17.6 17.6l.8.8M5.6 18.4l.8-.8M17.6 6.4l.8-.8",
  tool: "M14 6a4 4 0 0 0-4 5.5L4 17.500l2.500 2.500L12.500 14A4 4 0 0 0 18 8.500L15.500 11 13 8.500 15.500 6z",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  upload: "M12 16V5M7 9l5-5 5 5M5 20h14",
};

/**
 * Return an icon. It is hidden from assistive technology: name the control that holds it.
 *
 * @param {keyof typeof ICONS} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" })) {
    svg.setAttribute(key, value);
  }
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * Return a button that shows only an icon.
 *
 * @param {keyof typeof ICONS} name
 * @param {string} label
 * @param {(event: MouseEvent) => void} click
 */
export function iconButton(name, label, click) {
  return h(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, on: { click } },
    icon(name),
  );
}

/**
 * Return a button with a text.
 *
 * @param {string} label
 * @param {(event: MouseEvent) => void} click
 * @param {Record<string, any>} [attributes]
 */
export function button(label, click, attributes = {}) {
  return h("button", { type: "button", class: "button", ...attributes, on: { click } }, label);
}

/**
 * Return the classes of an element that shows a token; those with line breaks are marked.
 *
 * @param {string} text
 * @param {string} kind
 */
export function tokenClass(text, kind) {
  return text.includes("\n") ? `token ${kind} newline` : `token ${kind}`;
}

/**
 * Return a function that runs `work` once later, however often the function is called before.
 *
 * @param {(run: () => void) => void} schedule runs its argument later
 * @param {() => void} work
 */
function coalesced(schedule, work) {
  let planned = false;
  return () => {
    if (planned) return;
    planned = true;
    schedule(() => {
      planned = false;
      work();
    });
  };
}

/**
 * Run `work` once in the next frame, however often the returned function is called before.
 *
 * A page in the background has no frames; the work then waits until it is shown.
 *
 * @param {() => void} work
 */
export function perFrame(work) {
  return coalesced((run) => requestAnimationFrame(run), work);
}

/**
 * Run `work` at most every `ms` milliseconds, and once after the last call of the returned function.
 *
 * @param {() => void} work
 * @param {number} ms
 */
export function throttled(work, ms) {
  return coalesced((run) => setTimeout(run, ms), work);
}

/**
 * Tell screen readers a short text.
 *
 * @param {string} text
 */
export function announce(text) {
  byId("announcer", "div").textContent = text;
}
