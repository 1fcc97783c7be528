/**
 * The types that modules share. They exist for the type checker only.
 *
 * @typedef {"user" | "assistant" | "tool"} Role
 *
 * @typedef {object} Call A tool call; `arguments` is JSON text, incomplete while it streams or if the answer was cut.
 * @property {string} id
 * @property {string} name
 * @property {string} arguments
 *
 * @typedef {object} TokenLogprob
 * @property {string} token
 * @property {number} logprob
 * @property {{token: string, logprob: number}[]} top
 *
 * @typedef {object} Numbers Measurements of an answer; times in milliseconds.
 * @property {number} [promptTokens]
 * @property {number} [cachedTokens]
 * @property {number} [answerTokens] of all choices together
 * @property {number} [reasoningTokens]
 * @property {number} [firstTokenMs] from sending the request to the first token
 * @property {number} [tokensPerSecond]
 * @property {number} [totalMs]
 *
 * @typedef {object} Failure
 * @property {string} message
 * @property {string} [requestId]
 * @property {number} [status]
 * @property {string | null} [code]
 *
 * @typedef {Record<string, any>} Body A request body, as JSON.
 *
 * @typedef {object} Turn A message in a conversation's tree.
 * @property {string} id
 * @property {string | null} parent null for a first message
 * @property {Role} role
 * @property {string} content
 * @property {string} [reasoning]
 * @property {number} [reasoningMs]
 * @property {Call[]} [calls]
 * @property {string} [callId] for a tool's result: the call it answers
 * @property {TokenLogprob[]} [logprobs]
 * @property {Numbers} [numbers]
 * @property {Body} [sent] the request that made an answer, without `messages`
 * @property {string} [system] the system prompt of that request
 * @property {string} [finish] finish_reason, or "stopped" if the user stopped the answer
 * @property {string} [requestId]
 * @property {Failure} [failure]
 *
 * @typedef {object} Settings
 * @property {string} system
 * @property {Record<string, any>} parameters only those that are set
 * @property {boolean} useTools
 * @property {string} tools JSON text
 * @property {string} toolChoice "auto", "none", "required" or "function:NAME"
 * @property {boolean} parallelCalls
 * @property {boolean} useSchema
 * @property {string} schema JSON text
 * @property {number | null} topLogprobs null requests no log-probabilities
 *
 * @typedef {object} Conversation
 * @property {string} id
 * @property {string} title
 * @property {number} changed milliseconds since 1970
 * @property {Record<string, Turn>} turns
 * @property {string | null} leaf the last turn of the branch that is shown
 * @property {Settings} settings
 */

export {};
