/**
 * Starts the page: one session, and the views that show it.
 */

import { ChatView } from "./chat/chat_view.js";
import { composer } from "./chat/composer.js";
import { byId, fill, h, icon } from "./dom.js";
import { conversationsPanel } from "./panels/conversations.js";
import { inspectPanel } from "./panels/inspect.js";
import { keyDialog } from "./panels/key.js";
import { outputPanel } from "./panels/output.js";
import { parametersPanel } from "./panels/parameters.js";
import { serverPanel } from "./panels/server.js";
import { closeDrawer, drawers, tabs } from "./panels/tabs.js";
import { toolsPanel } from "./panels/tools.js";
import { Session } from "./session.js";
import { theme } from "./theme.js";

const session = new Session();

for (const holder of document.querySelectorAll("[data-icon]")) {
  const name = /** @type {HTMLElement} */ (holder).dataset.icon;
  holder.prepend(icon(/** @type {Parameters<typeof icon>[0]} */ (name)));
}
theme();
tabs();
drawers();
keyDialog(session);
conversationsPanel(session);
parametersPanel(session);
toolsPanel(session);
outputPanel(session);
inspectPanel(session);
new ChatView(session);
composer(session);
modelChoice();
shortcuts();
await session.load();
serverPanel(session);
addEventListener("pagehide", () => session.saveNow());
document.body.dataset.ready = "";

/** Connect the choice of the model; with one name there is nothing to choose. */
function modelChoice() {
  const select = byId("model", "select");
  session.on(["model"], () => {
    fill(select, ...session.modelNames.map((name) => h("option", { value: name }, name)));
    select.value = session.model?.id ?? "";
    select.hidden = session.modelNames.length < 2;
  });
  select.addEventListener("change", () => session.loadModel(select.value).catch(() => {}));
}

function shortcuts() {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("key-dialog", "dialog").open) {
      if (document.body.dataset.drawer) closeDrawer();
      else session.stop();
    }
    if (event.altKey && event.key.toLowerCase() === "n") {
      event.preventDefault();
      session.create();
      byId("prompt", "textarea").focus();
    }
  });
}
