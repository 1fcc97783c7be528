/**
 * Puts the chunks of a stream together into the turns of an answer, and measures their pace.
 */

import { ApiError } from "./api.js";

/** @typedef {import("./types.js").Turn} Turn */
/** @typedef {import("./types.js").Body} Body */
/** @typedef {import("./types.js").Failure} Failure */
/** @typedef {import("./types.js").Numbers} Numbers */
/** @typedef {import("./api.js").Api} Api */
/** @typedef {import("./types.js").Call} Call */

export class Answer {
  /** Milliseconds between two events with text of one choice, in order of arrival. */
  gaps = /** @type {number[]} */ ([]);

  /** The data of all events, as received. */
  events = /** @type {string[]} */ ([]);

  #started = performance.now();
  #first = 0;
  #last = /** @type {number[]} */ ([]);
  #thinkingSince = 0;

  /** @param {Turn[]} turns the turns of the choices, in their order */
  constructor(turns) {
    this.turns = turns;
  }

  /**
   * Add an event. Throws an Error with the server's message if the event is an error.
   *
   * @param {string} data
   */
  add(data) {
    this.events.push(data);
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw Object.assign(new Error(chunk.error.message), { code: chunk.error.code });
    if (chunk.usage) this.#setUsage(chunk.usage, this.#speed(chunk));
    for (const choice of chunk.choices ?? []) {
      this.#addChoice(choice);
      const tokensPerSecond = chunk.timings?.predicted_per_second;
      const turn = this.turns[choice.index];
      if (turn && tokensPerSecond) turn.numbers = { ...turn.numbers, tokensPerSecond };
    }
  }

  /** Note the total time. */
  end() {
    for (const turn of this.turns) turn.numbers = { ...turn.numbers, totalMs: performance.now() - this.#started };
  }

  /** @param {any} choice */
  #addChoice(choice) {
    const turn = this.turns[choice.index];
    if (turn === undefined) return;
    const { content, reasoning_content: thoughts, tool_calls: calls } = choice.delta ?? {};
    if (content || thoughts || calls?.length) this.#tick(choice.index);
    if (thoughts) {
      this.#thinkingSince ||= performance.now();
      turn.reasoning = (turn.reasoning ?? "") + thoughts;
      turn.reasoningMs = performance.now() - this.#thinkingSince;
    }
    if (content) turn.content += content;
    for (const call of calls ?? []) addCall(turn, call);
    if (choice.logprobs?.content) {
      const added = choice.logprobs.content.map(logprob);
      turn.logprobs = turn.logprobs ?? [];
      turn.logprobs.push(...added);
    }
    if (choice.finish_reason) turn.finish = choice.finish_reason;
  }

  /** @param {number} index */
  #tick(index) {
    const now = performance.now();
    if (!this.#first) {
      this.#first = now;
      for (const turn of this.turns) turn.numbers = { ...turn.numbers, firstTokenMs: now - this.#started };
    }
    if (this.#last[index] !== undefined) this.gaps.push(now - this.#last[index]);
    this.#last[index] = now;
  }

  /**
   * Return the speed so far, until the server reports its own measurement with the last token of a choice.
   *
   * @param {any} chunk
   */
  #speed(chunk) {
    const decoded = chunk.usage.completion_tokens - 1;
    if (!this.#first || decoded < 1 || this.turns.length > 1 || !chunk.choices?.length) return {};
    return { tokensPerSecond: decoded / ((performance.now() - this.#first) / 1000) };
  }

  /**
   * @param {any} usage
   * @param {Numbers} speed
   */
  #setUsage(usage, speed) {
    for (const turn of this.turns) {
      turn.numbers = {
        ...turn.numbers,
        promptTokens: usage.prompt_tokens,
        cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
        answerTokens: usage.completion_tokens,
        reasoningTokens: usage.completion_tokens_details?.reasoning_tokens ?? 0,
        ...speed,
      };
    }
  }
}

/**
 * Stream an answer until it ends, fails or is stopped. A failure is noted in the turns; the text so far stays.
 *
 * @param {Api} api
 * @param {Answer} answer
 * @param {Body} body
 * @param {AbortSignal} signal
 * @param {() => void} onDelta
 */
export async function streamAnswer(api, answer, body, signal, onDelta) {
  const { turns } = answer;
  const begun = (/** @type {string} */ requestId) => {
    for (const turn of turns) turn.requestId = requestId;
  };
  try {
    for await (const data of api.chat(body, signal, begun)) {
      answer.add(data);
      onDelta();
    }
  } catch (error) {
    const failure = signal.aborted ? undefined : failureOf(error, turns[0].requestId);
    for (const turn of turns) {
      if (failure) turn.failure = failure;
      else turn.finish ??= "stopped";
    }
  }
  answer.end();
}

/**
 * @param {unknown} error
 * @param {string} [requestId]
 * @returns {Failure}
 */
function failureOf(error, requestId) {
  if (error instanceof ApiError) return error.failure;
  const code = error instanceof Error && "code" in error ? String(error.code) : null;
  return { message: error instanceof Error ? error.message : String(error), requestId, code };
}

/**
 * @param {Turn} turn
 * @param {any} delta
 */
function addCall(turn, delta) {
  turn.calls ??= [];
  const call = (turn.calls[delta.index] ??= { id: "", name: "", arguments: "" });
  if (delta.id) call.id = delta.id;
  const part = delta.function ?? {};
  if (part.name) call.name = part.name;
  if (part.arguments) call.arguments += part.arguments;
}

/** @param {any} entry */
function logprob(entry) {
  const top = (entry.top_logprobs ?? []).map(
    /** @param {any} each */ (each) => ({ token: each.token, logprob: each.logprob }),
  );
  return { token: entry.token, logprob: entry.logprob, top };
}
