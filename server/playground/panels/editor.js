import { h } from "../dom.js";

/**
 * Return a field for JSON with a line that says what is wrong with it.
 *
 * @param {string} id
 * @param {string} label
 * @param {(text: string) => void} onChange
 * @param {(value: any) => string} check returns what is wrong with well-formed JSON, "" if nothing is
 */
export function jsonEditor(id, label, onChange, check) {
  const area = h("textarea", { id, class: "json", rows: 14, spellcheck: "false", "aria-describedby": `${id}-state` });
  const state = h("p", { class: "editor-state", id: `${id}-state`, role: "status" });
  const validate = () => {
    const problem = problemOf(area.value, check);
    area.setAttribute("aria-invalid", String(Boolean(problem)));
    state.textContent = problem || "Valid";
    state.classList.toggle("problem", Boolean(problem));
  };
  area.addEventListener("input", () => {
    validate();
    onChange(area.value);
  });
  return {
    nodes: [h("label", { for: id, class: "heading" }, label), area, state],
    /** @param {string} text */
    show(text) {
      if (area.value !== text) area.value = text;
      validate();
    },
  };
}

/**
 * @param {string} text
 * @param {(value: any) => string} check
 */
function problemOf(text, check) {
  try {
    return check(JSON.parse(text));
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
