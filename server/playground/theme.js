import { byId, icon } from "./dom.js";
import { preference, setPreference } from "./storage.js";

/** Connect the button that switches between light and dark. Without a choice the page follows the system. */
export function theme() {
  const button = byId("theme", "button");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (preference("theme") || (system.matches ? "dark" : "light")) === "dark";
  const update = () => {
    const chosen = preference("theme");
    if (chosen) document.documentElement.dataset.theme = chosen;
    const label = isDark() ? "Switch to light colours" : "Switch to dark colours";
    button.setAttribute("aria-label", label);
    button.title = label;
    button.replaceChildren(icon(isDark() ? "sun" : "moon"));
  };
  button.addEventListener("click", () => {
    setPreference("theme", isDark() ? "light" : "dark");
    update();
  });
  system.addEventListener("change", update);
  update();
}
