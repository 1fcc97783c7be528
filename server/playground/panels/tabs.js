/**
 * The tabs of the inspector, and the two side areas, which are drawers on narrow screens.
 */

import { byId } from "../dom.js";

const NAMES = ["settings", "tools", "output", "inspect", "server"];

export function tabs() {
  const all = NAMES.map((name) => ({ tab: byId(`tab-${name}`, "button"), panel: byId(`panel-${name}`, "div") }));
  const select = (/** @type {number} */ chosen) => {
    all.forEach(({ tab, panel }, index) => {
      tab.setAttribute("aria-selected", String(index === chosen));
      tab.tabIndex = index === chosen ? 0 : -1;
      panel.hidden = index !== chosen;
    });
  };
  all.forEach(({ tab }, index) => {
    tab.addEventListener("click", () => {
      select(index);
      openDrawer("inspector");
    });
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step === undefined) return;
      const next = (index + step + all.length) % all.length;
      select(next);
      all[next].tab.focus();
    });
  });
  select(0);
}

/** Connect the buttons that open and close the side areas. */
export function drawers() {
  for (const name of ["sidebar", "inspector"]) {
    const toggle = byId(`toggle-${name}`, "button");
    toggle.addEventListener("click", () => (document.body.dataset.drawer === name ? closeDrawer() : openDrawer(name)));
    byId(`close-${name}`, "button").addEventListener("click", () => {
      closeDrawer();
      toggle.focus();
    });
  }
  byId("backdrop", "div").addEventListener("click", closeDrawer);
}

/** @param {string} name */
export function openDrawer(name) {
  document.body.dataset.drawer = name;
  updateToggles();
}

export function closeDrawer() {
  delete document.body.dataset.drawer;
  updateToggles();
}

function updateToggles() {
  for (const name of ["sidebar", "inspector"]) {
    byId(`toggle-${name}`, "button").setAttribute("aria-expanded", String(document.body.dataset.drawer === name));
  }
}
