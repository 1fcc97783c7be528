"""Builds text completions in OpenAI's format, as one body or as chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from server.api.completions.fields import CompletionRequest
from server.api.completions.wire import CompletionChoice, CompletionFinishReason, CompletionLogprobs, TextCompletion
from server.api.generation.envelope import LOWEST_LOGPROB, Envelope, usage
from server.chat.completion import Completion
from server.chat.output.text_choice import PlacedToken, TextChoiceDelta
from server.chat.types import ChoiceEnd, TokenText

FINISH_REASONS: dict[ChoiceEnd, CompletionFinishReason] = {ChoiceEnd.STOP: "stop", ChoiceEnd.LENGTH: "length"}


class TextChunks:
    """Builds the chunks of one stream."""

    def __init__(self, envelope: Envelope, completion: Completion[TextChoiceDelta], body: CompletionRequest) -> None:
        options = body.stream_options
        self._envelope = envelope
        self._completion = completion
        self._usage_in_each = bool(options and options.continuous_usage_stats)
        self.usage_at_end = bool(options and options.include_usage)
        self._token_ids = bool(body.return_token_ids)
        self._opened: set[int] = set()

    def delta(self, choice: int, delta: TextChoiceDelta) -> TextCompletion:
        """Return the chunk for `delta`."""
        entry = _choice(choice, delta.text, delta.tokens, delta.end)
        if self._token_ids:
            entry["token_ids"] = delta.token_ids
            if choice not in self._opened:
                self._opened.add(choice)
                entry["prompt_token_ids"] = self._completion.prompts[choice // self._completion.n]
        chunk = _wrap(self._envelope, [entry])
        if self._usage_in_each:
            chunk["usage"] = usage(self._completion)
        elif self.usage_at_end:
            chunk["usage"] = None
        return chunk

    def usage(self) -> TextCompletion:
        """Return the final chunk, with the usage and no choices."""
        chunk = _wrap(self._envelope, [])
        chunk["usage"] = usage(self._completion)
        return chunk


@dataclass(slots=True)
class TextBody:
    """One choice of a non-streamed answer, collected from deltas."""

    text: list[str] = field(default_factory=list)
    tokens: list[PlacedToken] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    end: ChoiceEnd | None = None

    def add(self, delta: TextChoiceDelta) -> None:
        """Append `delta`."""
        self.text.append(delta.text)
        self.tokens += delta.tokens
        self.token_ids += delta.token_ids
        self.end = delta.end


def text_body(
    envelope: Envelope, completion: Completion[TextChoiceDelta], choices: Sequence[TextBody], *, token_ids: bool
) -> TextCompletion:
    """Return the body of a non-streamed answer."""
    entries = [_choice(i, "".join(choice.text), choice.tokens, choice.end) for i, choice in enumerate(choices)]
    if token_ids:
        for i, (entry, choice) in enumerate(zip(entries, choices, strict=True)):
            entry["prompt_token_ids"] = completion.prompts[i // completion.n]
            entry["token_ids"] = choice.token_ids
    answer = _wrap(envelope, entries)
    answer["usage"] = usage(completion)
    return answer


def _wrap(envelope: Envelope, choices: list[CompletionChoice]) -> TextCompletion:
    return {
        "id": envelope.id,
        "object": "text_completion",
        "created": envelope.created,
        "model": envelope.model,
        "system_fingerprint": envelope.fingerprint,
        "choices": choices,
    }


def _choice(index: int, text: str, tokens: Sequence[PlacedToken], end: ChoiceEnd | None) -> CompletionChoice:
    return {
        "index": index,
        "text": text,
        "logprobs": _logprobs(tokens) if tokens else None,
        "finish_reason": FINISH_REASONS[end] if end else None,
    }


def _logprobs(tokens: Sequence[PlacedToken]) -> CompletionLogprobs:
    return {
        "tokens": [_text(token.data) for token in tokens],
        "token_logprobs": [None if token.logprob is None else max(token.logprob, LOWEST_LOGPROB) for token in tokens],
        "top_logprobs": [None if token.logprob is None else _by_text(token.top) for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }


def _by_text(tokens: Sequence[TokenText]) -> dict[str, float]:
    """Map each token's text to its log-probability.

    If several tokens have the same text, only the first one is included.
    """
    logprobs: dict[str, float] = {}
    for token in tokens:
        logprobs.setdefault(_text(token.data), max(token.logprob, LOWEST_LOGPROB))
    return logprobs


def _text(data: bytes) -> str:
    r"""Return a token's text.

    Invalid UTF-8 becomes OpenAI's notation for bytes, such as `bytes:\xe2\x82`.
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
