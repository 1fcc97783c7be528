import { byId } from "../dom.js";

/** @typedef {import("../session.js").Session} Session */

/**
 * Connect the field for a message with its buttons and keys.
 *
 * @param {Session} session
 */
export function composer(session) {
  const grows = CSS.supports("field-sizing", "content");
  const hasTouchKeyboard = matchMedia("(pointer: coarse)");
  const form = byId("composer", "form");
  const field = byId("prompt", "textarea");
  const send = byId("send", "button");
  const stop = byId("stop", "button");

  const update = () => {
    send.hidden = session.running !== null;
    stop.hidden = session.running === null;
    send.disabled = !field.value.trim();
    if (!grows) {
      // The style sheet's field-sizing has no effect in this browser.
      field.style.height = "auto";
      field.style.height = `${field.scrollHeight}px`;
    }
  };
  const submit = () => {
    const message = field.value.trim();
    if (session.running || !message) return;
    session.send(message);
    field.value = "";
    update();
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  field.addEventListener("input", update);
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || hasTouchKeyboard.matches) return;
    event.preventDefault();
    submit();
  });
  stop.addEventListener("click", () => {
    session.stop();
    field.focus();
  });
  session.on(["running"], update);
  update();
}
