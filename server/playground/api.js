/**
 * Calls the server. All addresses are relative to the page's own, so that a path prefix of a proxy is kept.
 */

import { events } from "./stream.js";

/** @typedef {import("./types.js").Body} Body */
/** @typedef {import("./types.js").Failure} Failure */

/** An error that the server returned, or a connection that failed. */
export class ApiError extends Error {
  /** @param {Failure} failure */
  constructor(failure) {
    super(failure.message);
    this.failure = failure;
  }
}

const POLL_TIMEOUT = 5000; // milliseconds

export const UNREACHABLE = "The server cannot be reached.";
export const LOST = "The connection to the server was lost before the answer was complete.";

/** @param {string} path */
export function address(path) {
  return new URL(path, document.baseURI).href;
}

export class Api {
  /** The API key, or "" if there is none. */
  key = "";

  /** @returns {Promise<{id: string, max_model_len: number}[]>} */
  async models() {
    return (await this.#json("v1/models")).data;
  }

  /**
   * @param {string} name
   * @returns {Promise<{id: string, max_model_len: number, built_in: boolean, sampling_defaults: Record<string, number>}>}
   */
  model(name) {
    return this.#json(`v1/models/${name.split("/").map(encodeURIComponent).join("/")}`);
  }

  /** Return the server's state in words: "ready", or why it is not. */
  async readiness() {
    try {
      const answer = await fetch(address("ready"), { cache: "no-store", signal: AbortSignal.timeout(POLL_TIMEOUT) });
      const body = await answer.json();
      return { ready: answer.ok, reachable: true, detail: answer.ok ? "Ready" : String(body.detail ?? answer.status) };
    } catch {
      return { ready: false, reachable: false, detail: UNREACHABLE };
    }
  }

  /** Return the text of /metrics. Throws ApiError if a proxy hides it. */
  async metrics() {
    return (await this.#fetch("metrics", undefined, AbortSignal.timeout(POLL_TIMEOUT))).text();
  }

  /**
   * Return the tokens of the prompt that a chat request has.
   *
   * @param {Body} body
   * @returns {Promise<{count: number, max_model_len: number, tokens: number[], token_strs: string[]}>}
   */
  tokenize(body) {
    return this.#json("tokenize", { ...body, return_token_strs: true });
  }

  /**
   * Stream the answer to a chat request, as the data of its events.
   *
   * @param {Body} body
   * @param {AbortSignal} signal
   * @param {(requestId: string) => void} begun
   */
  async *chat(body, signal, begun) {
    const answer = await this.#fetch("v1/chat/completions", body, signal);
    const requestId = answer.headers.get("x-request-id") ?? "";
    begun(requestId);
    if (answer.body === null) throw new ApiError({ message: LOST, requestId });
    try {
      for await (const data of events(answer.body)) {
        yield data;
        if (data === "[DONE]") return;
      }
    } catch (error) {
      if (signal.aborted) throw error;
      throw new ApiError({ message: LOST, requestId });
    }
    throw new ApiError({ message: LOST, requestId });
  }

  /**
   * @param {string} path
   * @param {Body} [body]
   */
  async #json(path, body) {
    return (await this.#fetch(path, body)).json();
  }

  /**
   * @param {string} path
   * @param {Body} [body] sent with POST; without it the request is a GET
   * @param {AbortSignal} [signal]
   */
  async #fetch(path, body, signal) {
    /** @type {Record<string, string>} */
    const headers = body ? { "Content-Type": "application/json" } : {};
    if (this.key) headers.Authorization = `Bearer ${this.key}`;
    let answer;
    try {
      answer = await fetch(address(path), {
        method: body ? "POST" : "GET",
        headers,
        body: body && JSON.stringify(body),
        signal,
        cache: "no-store",
        credentials: "omit",
        referrerPolicy: "no-referrer",
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError({ message: UNREACHABLE });
    }
    if (!answer.ok) throw new ApiError(await described(answer));
    return answer;
  }
}

/**
 * @param {Response} answer
 * @returns {Promise<Failure>}
 */
async function described(answer) {
  const requestId = answer.headers.get("x-request-id") ?? undefined;
  const body = await answer.json().catch(() => null);
  const error = body?.error ?? {};
  const message =
    typeof error.message === "string" ? error.message : `The server answered with status ${answer.status}.`;
  return { message, requestId, status: answer.status, code: error.code ?? null };
}
