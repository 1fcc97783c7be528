"""Tokenizes prompts, and drops the oldest messages of chats that are too long."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

from server.chat.prompt import ChatPrompt
from server.chat.thinking import ThinkingBudgets
from server.chat.tokenizer import Tokenizer
from server.chat.types import ChatRequest

DEFAULT_ROOM = 4
"""The divisor for the share of the context that is left for an answer.

4 leaves a quarter. Applies if messages are dropped and the request sets no `max_tokens`.
"""


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """The part of a model that tokenizes prompts. It can be pickled.

    thinking: the thinking budgets, on which the prompt may depend.
    """

    tokenizer: Tokenizer
    prompt: ChatPrompt
    thinking: ThinkingBudgets

    def of_chat(self, request: ChatRequest) -> list[int]:
        """Return the tokens of a chat's prompt.

        Raises InvalidRequestError if the chat cannot be rendered.
        """
        variables = {**self.thinking.variables(request.thinking), **request.template.variables}
        return self.prompt.tokens(request.messages, request.tools, replace(request.template, variables=variables))

    def of_text(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the tokens of a text.

        add_special_tokens: whether to put the model's BOS before the text.
        """
        tokens = self.tokenizer.encode(text)
        return [*self.tokenizer.beginning(tokens), *tokens] if add_special_tokens else tokens


def truncated(request: ChatRequest, tokens: Callable[[ChatRequest], list[int]], max_model_len: int) -> list[int] | None:
    """Return the prompt's tokens, keeping as many of the newest messages as fit.

    Keeps the system messages at the start of the chat. Returns None if no message fits.

    tokens: returns the tokens of a request's prompt.
    """
    messages = request.messages
    most = max_model_len - min(request.max_tokens or max_model_len // DEFAULT_ROOM, max_model_len // 2)
    kept = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    # The results of calls are dropped together with the calls.
    starts = [i for i in range(kept, len(messages)) if i == kept or messages[i].role != "tool"]
    prompts: dict[int, list[int]] = {}

    def fits(start: int) -> bool:
        prompts[start] = tokens(replace(request, messages=(*messages[:kept], *messages[start:])))
        return len(prompts[start]) <= most

    first = bisect_left(starts, True, key=fits)
    return prompts[starts[first]] if first < len(starts) else None
