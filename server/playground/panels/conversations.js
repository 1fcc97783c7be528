/**
 * The list of conversations, with export and import.
 */

import { save } from "../clipboard.js";
import { fromFile, toFile } from "../conversation_file.js";
import { announce, byId, h, iconButton } from "../dom.js";

/** @typedef {import("../types.js").Conversation} Conversation */
/** @typedef {import("../session.js").Session} Session */

/** @param {Session} session */
export function conversationsPanel(session) {
  const list = byId("conversation-list", "ul");
  const file = byId("import-file", "input");
  const problem = byId("import-problem", "p");

  const none = byId("no-conversations", "p");
  const exportOne = byId("export-one", "button");
  const exportAll = byId("export-all", "button");

  const update = () => {
    const { conversations, conversation } = session;
    list.replaceChildren(...conversations.map((each) => entry(session, each)));
    none.hidden = conversations.length > 0;
    exportOne.disabled = !conversations.includes(conversation);
    exportAll.disabled = conversations.length === 0;
  };
  session.on(["conversations"], update);
  session.on(["unsaved"], () => {
    problem.textContent = "The browser does not keep these conversations: export what you need.";
  });

  byId("new-conversation", "button").addEventListener("click", () => {
    session.create();
    byId("prompt", "textarea").focus();
  });
  exportOne.addEventListener("click", () => exported([session.conversation]));
  exportAll.addEventListener("click", () => exported(session.conversations));
  byId("import", "button").addEventListener("click", () => file.click());
  file.addEventListener("change", async () => {
    const [chosen] = file.files ?? [];
    file.value = "";
    if (!chosen) return;
    problem.textContent = "";
    try {
      const added = fromFile(await chosen.text());
      await session.add(added);
      announce(`${added.length} conversations imported.`);
    } catch (error) {
      problem.textContent = error instanceof Error ? error.message : String(error);
    }
  });
}

/** @param {Conversation[]} conversations */
function exported(conversations) {
  save("lfm-serve-conversations.json", toFile(conversations));
}

/**
 * @param {Session} session
 * @param {Conversation} conversation
 */
function entry(session, conversation) {
  const title = conversation.title || "New conversation";
  const isShown = conversation === session.conversation;
  const show = h(
    "button",
    {
      type: "button",
      class: "conversation",
      "aria-current": isShown ? "true" : null,
      on: { click: () => session.show(conversation) },
    },
    title,
  );
  return h(
    "li",
    {},
    show,
    iconButton("trash", `Delete “${title}”`, () => {
      if (confirm(`Delete “${title}”? It cannot be restored.`)) session.remove(conversation);
    }),
  );
}
