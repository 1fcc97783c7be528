"""Text deltas in the shapes of OpenAI's /v1/completions: chunks for streams, one body for plain answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from server.api.completions.fields import CompletionRequest
from server.api.generation.envelope import LOWEST_LOGPROB, Envelope, usage
from server.chat.completion import Completion
from server.chat.output.text_choice import PlacedToken, TextDelta
from server.chat.types import ChoiceEnd, TokenText

KIND = "text_completion"


class TextChunks:
    """One answer as chunks."""

    def __init__(self, envelope: Envelope, completion: Completion[TextDelta], asked: CompletionRequest) -> None:
        options = asked.stream_options
        self._envelope = envelope
        self._completion = completion
        self._usage_in_each = bool(options and options.continuous_usage_stats)
        self.usage_at_end = bool(options and options.include_usage)
        self._token_ids = bool(asked.return_token_ids)
        self._opened: set[int] = set()

    def delta(self, choice: int, delta: TextDelta) -> dict[str, Any]:
        """What a choice has gained."""
        entry = _choice(choice, delta.text, delta.tokens, delta.end)
        if self._token_ids:
            entry["token_ids"] = delta.token_ids
            if choice not in self._opened:
                self._opened.add(choice)
                entry["prompt_token_ids"] = self._completion.prompts[choice // self._completion.n]
        chunk = self._envelope.wrap(KIND, [entry])
        if self._usage_in_each:
            chunk["usage"] = usage(self._completion)
        elif self.usage_at_end:
            chunk["usage"] = None
        return chunk

    def usage(self) -> dict[str, Any]:
        """The last chunk, of no choice."""
        return self._envelope.wrap(KIND, []) | {"usage": usage(self._completion)}


@dataclass(slots=True)
class TextBody:
    """A plain answer's choice, gathered from the deltas a stream would send."""

    text: list[str] = field(default_factory=list)
    tokens: list[PlacedToken] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    end: ChoiceEnd | None = None

    def add(self, delta: TextDelta) -> None:
        """Take in what the choice has gained."""
        self.text.append(delta.text)
        self.tokens += delta.tokens
        self.token_ids += delta.token_ids
        self.end = delta.end


def text_body(
    envelope: Envelope, completion: Completion[TextDelta], choices: Sequence[TextBody], *, token_ids: bool
) -> dict[str, Any]:
    """A plain answer."""
    entries = [_choice(i, "".join(choice.text), choice.tokens, choice.end) for i, choice in enumerate(choices)]
    if token_ids:
        for i, (entry, choice) in enumerate(zip(entries, choices, strict=True)):
            entry["prompt_token_ids"] = completion.prompts[i // completion.n]
            entry["token_ids"] = choice.token_ids
    return envelope.wrap(KIND, entries) | {"usage": usage(completion)}


def _choice(index: int, text: str, tokens: Sequence[PlacedToken], end: ChoiceEnd | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": _logprobs(tokens) if tokens else None, "finish_reason": end}


def _logprobs(tokens: Sequence[PlacedToken]) -> dict[str, Any]:
    return {
        "tokens": [_shown(token.data) for token in tokens],
        "token_logprobs": [None if token.logprob is None else max(token.logprob, LOWEST_LOGPROB) for token in tokens],
        "top_logprobs": [None if token.logprob is None else _by_text(token.top) for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }


def _by_text(tokens: Sequence[TokenText]) -> dict[str, float]:
    """The token itself and the most likely ones; of two that look the same, the first."""
    shown: dict[str, float] = {}
    for token in tokens:
        shown.setdefault(_shown(token.data), max(token.logprob, LOWEST_LOGPROB))
    return shown


def _shown(data: bytes) -> str:
    """A token's text, or as OpenAI spells them, its bytes where they are half a character."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
