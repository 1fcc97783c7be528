/**
 * The state of the page: the conversations, the one that is shown, the served model and the answer that streams.
 *
 * Views listen for these events: "conversations" (the list changed), "turns" (the shown branch changed), "delta" (an
 * answer grew), "running" (an answer began or ended), "inspected", "model", "settings", "unsaved" (the browser keeps
 * nothing), "key" (the user should enter an API key).
 */

import { Answer, streamAnswer } from "./answer.js";
import { Api } from "./api.js";
import { addTurn, branchOff, newConversation, openCalls, path, showBranch } from "./conversation.js";
import { messages } from "./request.js";
import { bodyOf, defaultSettings } from "./settings.js";
import { dropConversation, keepConversation, loadConversations, preference, setPreference } from "./storage.js";

/** @typedef {import("./types.js").Turn} Turn */
/** @typedef {import("./types.js").Conversation} Conversation */
/** @typedef {{id: string, max_model_len: number, built_in: boolean, sampling_defaults: Record<string, number>}} Model */
/** @typedef {{conversation: Conversation, answer: Answer, controller: AbortController}} Running */

const SAVE_MS = 200;
const KEPT_ANSWERS = 20;

export class Session extends EventTarget {
  api = new Api();
  /** @type {Conversation[]} */
  conversations = [];
  conversation = newConversation(defaultSettings());
  /** @type {Model | null} */
  model = null;
  /** @type {string[]} */
  modelNames = [];
  /** @type {Running | null} */
  running = null;
  /** The latest answers by the ids of their turns; events and pace are not kept in the browser. @type {Map<string, Answer>} */
  answers = new Map();
  /** The answer that the inspector shows; null shows the last one. @type {string | null} */
  inspectedId = null;
  #unsaved = /** @type {Set<Conversation>} */ (new Set());

  /**
   * Listen for one or more events.
   *
   * @param {string[]} names
   * @param {() => void} listener
   */
  on(names, listener) {
    for (const name of names) this.addEventListener(name, listener);
  }

  /** @param {string} name */
  #emit(name) {
    this.dispatchEvent(new Event(name));
  }

  /** Load the conversations that the browser keeps. */
  async load() {
    this.conversations = await loadConversations();
    const current = preference("current");
    const shown = this.conversations.find((each) => each.id === current) ?? this.conversations[0];
    if (shown) this.show(shown);
    else this.create();
  }

  /** Ask the server for its models and the details of the first one. Throws ApiError. */
  async loadModel(name = "") {
    const models = await this.api.models();
    this.modelNames = models.map((model) => model.id);
    this.model = await this.api.model(this.modelNames.includes(name) ? name : this.modelNames[0]);
    this.#emit("model");
  }

  /** Start a new conversation with the settings of the shown one. An empty one is kept instead. */
  create() {
    if (this.conversation.leaf !== null) this.conversation = newConversation(this.conversation.settings);
    this.#shown();
  }

  /** @param {Conversation} conversation */
  show(conversation) {
    this.conversation = conversation;
    setPreference("current", conversation.id);
    this.#shown();
  }

  #shown() {
    this.inspectedId = null;
    for (const name of ["conversations", "turns", "settings"]) this.#emit(name);
  }

  /** @param {Conversation[]} added */
  async add(added) {
    this.conversations.unshift(...added);
    for (const conversation of added) await keepConversation(conversation);
    if (added.length) this.show(added[0]);
  }

  /** @param {Conversation} conversation */
  async remove(conversation) {
    if (this.running?.conversation === conversation) this.stop();
    this.conversations = this.conversations.filter((each) => each !== conversation);
    await dropConversation(conversation.id);
    if (conversation !== this.conversation) this.#emit("conversations");
    else if (this.conversations.length) this.show(this.conversations[0]);
    else this.create();
  }

  /**
   * Start a conversation that begins with the shown branch up to `turn`.
   *
   * @param {Turn} turn
   */
  branch(turn) {
    return this.add([branchOff(this.conversation, turn)]);
  }

  /** Note that the settings changed. */
  changeSettings() {
    this.#emit("settings");
    if (this.conversation.leaf !== null) this.#save(this.conversation);
  }

  /** Forget all sampling parameters of the conversation, so that the model's own apply. */
  resetParameters() {
    this.conversation.settings.parameters = {};
    this.changeSettings();
  }

  /**
   * Return the answer to inspect; undefined if the shown branch has none.
   *
   * @returns {Turn | undefined}
   */
  get inspected() {
    const chosen = this.inspectedId === null ? undefined : this.conversation.turns[this.inspectedId];
    return chosen ?? path(this.conversation).findLast((turn) => turn.role === "assistant" && turn.sent);
  }

  /** @param {Turn} turn */
  inspect(turn) {
    this.inspectedId = turn.id;
    this.#emit("inspected");
  }

  /**
   * Add a version of an answer with a text of the user's.
   *
   * @param {Turn} answer
   * @param {string} content
   */
  replaceAnswer(answer, content) {
    addTurn(this.conversation, answer.parent, { role: "assistant", content });
    this.#emit("turns");
    this.#save(this.conversation);
  }

  /**
   * Show the branch only up to an answer, so that other results can be sent for its calls.
   *
   * @param {Turn} answer
   */
  reopenCalls(answer) {
    this.conversation.leaf = answer.id;
    this.#emit("turns");
  }

  /** @param {Turn} turn */
  showVersion(turn) {
    showBranch(this.conversation, turn);
    this.#emit("turns");
    this.#save(this.conversation);
  }

  /**
   * Send a user message at the end of the shown branch.
   *
   * @param {string} content
   */
  send(content) {
    return this.sendBelow(this.conversation.leaf, content);
  }

  /**
   * Send a user message below `parent`. Another message there becomes an earlier version.
   *
   * @param {string | null} parent
   * @param {string} content
   */
  sendBelow(parent, content) {
    if (this.running) return;
    addTurn(this.conversation, parent, { role: "user", content });
    return this.generate();
  }

  /**
   * Send the results of the last answer's calls, and generate on.
   *
   * @param {Map<string, string>} results by the call's id
   */
  sendResults(results) {
    if (this.running) return;
    for (const call of openCalls(this.conversation)) {
      addTurn(this.conversation, this.conversation.leaf, {
        role: "tool",
        callId: call.id,
        content: results.get(call.id) ?? "",
      });
    }
    return this.generate();
  }

  /** @param {Turn} answer */
  regenerate(answer) {
    if (this.running) return;
    this.conversation.leaf = answer.parent;
    return this.generate();
  }

  /** Generate an answer to the shown branch. With n above 1, the choices are versions of one turn. */
  async generate() {
    const { conversation } = this;
    const { settings } = conversation;
    if (!this.conversations.includes(conversation)) this.conversations.unshift(conversation);
    setPreference("current", conversation.id);
    let body;
    try {
      body = bodyOf(settings, this.model?.id);
    } catch (error) {
      const turn = addTurn(conversation, conversation.leaf, { role: "assistant" });
      turn.failure = { message: error instanceof Error ? error.message : String(error) };
      return this.#ended(conversation);
    }
    const prompt = messages(path(conversation), settings.system);
    const parent = conversation.leaf;
    const turns = Array.from({ length: body.n ?? 1 }, () =>
      addTurn(conversation, parent, { role: "assistant", sent: body, system: settings.system }),
    );
    conversation.leaf = turns[0].id;
    this.inspectedId = null;
    this.running = { conversation, answer: new Answer(turns), controller: new AbortController() };
    for (const name of ["running", "conversations", "turns"]) this.#emit(name);
    this.#save(conversation);
    this.#keep(this.running.answer);
    const { answer, controller } = this.running;
    await streamAnswer(this.api, answer, { ...body, messages: prompt }, controller.signal, () => this.#emit("delta"));
    this.running = null;
    this.#ended(conversation);
  }

  /**
   * Remember an answer's events and pace, and forget the oldest ones.
   *
   * @param {Answer} answer
   */
  #keep(answer) {
    for (const turn of answer.turns) this.answers.set(turn.id, answer);
    for (const old of [...this.answers.keys()].slice(0, -KEPT_ANSWERS)) this.answers.delete(old);
  }

  /** Ask the user for an API key. */
  askForKey() {
    this.#emit("key");
  }

  /** Stop the running answer. */
  stop() {
    this.running?.controller.abort();
  }

  /** @param {Conversation} conversation */
  #ended(conversation) {
    conversation.changed = Date.now();
    for (const name of ["running", "turns", "conversations"]) this.#emit(name);
    this.#save(conversation);
  }

  /**
   * Keep a conversation in the browser soon.
   *
   * @param {Conversation} conversation
   */
  #save(conversation) {
    if (!this.#unsaved.size) setTimeout(() => this.saveNow(), SAVE_MS);
    this.#unsaved.add(conversation);
  }

  /** Keep all changes in the browser. Emits "unsaved" if that fails. */
  async saveNow() {
    const changed = [...this.#unsaved, ...(this.running ? [this.running.conversation] : [])];
    this.#unsaved.clear();
    try {
      for (const each of changed) if (this.conversations.includes(each)) await keepConversation(each);
    } catch {
      this.#emit("unsaved");
    }
  }
}
