/**
 * The dialog for the API key. The key stays in memory unless the user asks to remember it.
 */

import { byId } from "../dom.js";
import { preference, setPreference } from "../storage.js";

/** @typedef {import("../session.js").Session} Session */

/** @param {Session} session */
export function keyDialog(session) {
  const dialog = byId("key-dialog", "dialog");
  const field = byId("key", "input");
  const remember = byId("remember-key", "input");
  const open = byId("open-key", "button");
  const state = byId("key-state", "span");

  session.api.key = preference("key");
  remember.checked = Boolean(session.api.key);
  const update = () => {
    state.textContent = session.api.key ? "API key set" : "API key";
    open.toggleAttribute("data-set", Boolean(session.api.key));
  };
  const show = () => {
    field.value = session.api.key;
    dialog.showModal();
  };
  open.addEventListener("click", show);
  session.on(["key"], show);
  byId("key-cancel", "button").addEventListener("click", () => dialog.close());
  byId("key-form", "form").addEventListener("submit", (event) => {
    event.preventDefault();
    session.api.key = field.value.trim();
    setPreference("key", remember.checked ? session.api.key : "");
    update();
    dialog.close();
    session.loadModel(session.model?.id).catch(() => {});
  });
  update();
}
