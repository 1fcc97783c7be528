"""Converts log-probabilities to the JSON of chat completions and responses."""

from __future__ import annotations

from server.api.generation.envelope import LOWEST_LOGPROB
from server.api.generation.wire import OutputTokenLogprob, TopLogprob
from server.chat.types import TokenLogprob, TokenText


def token_logprob(entry: TokenLogprob) -> OutputTokenLogprob:
    """Return the log-probabilities of a generated token and of its alternatives."""
    return {**_top_logprob(entry.token), "top_logprobs": [_top_logprob(token) for token in entry.top]}


def _top_logprob(token: TokenText) -> TopLogprob:
    return {"token": token.text, "logprob": max(token.logprob, LOWEST_LOGPROB), "bytes": list(token.data)}
