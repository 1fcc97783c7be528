"""Deltas in OpenAI's wire shapes: chunks for streams, one body for plain answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.chat_completions.tool_call_response import CallForms
from server.api.generation.envelope import LOWEST_LOGPROB, Envelope, usage
from server.chat.completion import AnyCompletion, Completion
from server.chat.types import ChoiceEnd, Delta, TokenLogprob, TokenText
from server.engine.types import PromptProgress


class Chunks:
    """One answer as chunks."""

    def __init__(self, envelope: Envelope, completion: Completion[Delta], asked: ChatCompletionRequest) -> None:
        options = asked.stream_options
        self._envelope = envelope
        self._completion = completion
        self._usage_in_each = bool(options and options.continuous_usage_stats)
        self.usage_at_end = bool(options and options.include_usage)
        self._token_ids = bool(asked.return_token_ids)
        self._untold: defaultdict[int, list[int]] = defaultdict(list)  # by choice, tokens that no chunk has told of
        self._calls = [CallForms.of(asked) for _ in range(completion.n)]

    def opening(self, choice: int) -> dict[str, Any]:
        """The first chunk of a choice."""
        chunk = self._chunk(choice, {"role": "assistant", "content": "", "refusal": None})
        return chunk | {"prompt_token_ids": self._completion.prompts[0]} if self._token_ids else chunk

    def delta(self, choice: int, delta: Delta) -> dict[str, Any] | None:
        """What a choice has gained; None where that is nothing a client can be told yet."""
        gained: dict[str, Any] = {"content": delta.content} if delta.content else {}
        if delta.reasoning:
            gained["reasoning_content"] = delta.reasoning
        if delta.tool_call is not None:
            gained |= self._calls[choice].add(delta.tool_call)
        self._untold[choice] += delta.token_ids
        if not (gained or delta.logprobs or delta.end or delta.progress):
            return None
        chunk = self._chunk(choice, gained, self._calls[choice].end(delta.end), delta.logprobs)
        if self._token_ids:
            chunk["choices"][0]["token_ids"] = self._untold.pop(choice, [])
        return chunk | {"prompt_progress": progress(delta.progress)} if delta.progress else chunk

    def usage(self) -> dict[str, Any]:
        """The last chunk, of no choice."""
        return self._envelope.wrap("chat.completion.chunk", []) | {"usage": usage(self._completion)}

    def _chunk(
        self, choice: int, delta: dict[str, Any], end: str | None = None, logprobs: tuple[TokenLogprob, ...] = ()
    ) -> dict[str, Any]:
        entry = {"index": choice, "delta": delta, "logprobs": _logprobs(logprobs), "finish_reason": end}
        chunk = self._envelope.wrap("chat.completion.chunk", [entry])
        if end is not None:
            chunk["timings"] = timings(self._completion)
        if self._usage_in_each:
            chunk["usage"] = usage(self._completion)
        elif self.usage_at_end:
            chunk["usage"] = None
        return chunk


@dataclass(slots=True)
class ChoiceBody:
    """A plain answer's choice, gathered from the deltas a stream would send."""

    calls: CallForms
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    end: ChoiceEnd | None = None

    @classmethod
    def of(cls, body: ChatCompletionRequest) -> ChoiceBody:
        """Return an empty choice, with calls in the form the request uses."""
        return cls(CallForms.of(body))

    def add(self, delta: Delta) -> None:
        """Take in what the choice has gained."""
        self.content.append(delta.content)
        self.reasoning.append(delta.reasoning)
        if delta.tool_call is not None:
            self.calls.add(delta.tool_call)
        self.logprobs += delta.logprobs
        self.token_ids += delta.token_ids
        self.end = delta.end

    def to_json(self, index: int) -> dict[str, Any]:
        """The choice as the body holds it."""
        calls = self.calls.message_fields()
        content, reasoning = "".join(self.content), "".join(self.reasoning)
        message: dict[str, Any] = {"role": "assistant", "content": (content or None) if calls else content}
        message |= {"refusal": None, **calls}
        if reasoning:
            message["reasoning_content"] = reasoning
        end = self.calls.end(self.end)
        return {"index": index, "message": message, "logprobs": _logprobs(self.logprobs), "finish_reason": end}


def chat_body(
    envelope: Envelope, completion: Completion[Delta], choices: Sequence[ChoiceBody], *, token_ids: bool
) -> dict[str, Any]:
    """A plain answer, with the ids of its tokens if `token_ids`."""
    entries = [choice.to_json(i) for i, choice in enumerate(choices)]
    told: dict[str, Any] = {"usage": usage(completion), "timings": timings(completion)}
    if token_ids:
        entries = [entry | {"token_ids": choice.token_ids} for entry, choice in zip(entries, choices, strict=True)]
        told["prompt_token_ids"] = completion.prompts[0]
    return envelope.wrap("chat.completion", entries) | told


def progress(progress: PromptProgress) -> dict[str, Any]:
    """How far a prompt is, by llama.cpp's names."""
    return {
        "total": progress.total,
        "cache": progress.cached,
        "processed": progress.processed,
        "time_ms": round(progress.seconds * 1000, 3),
    }


def timings(completion: AnyCompletion) -> dict[str, Any]:
    """How long it took, by llama.cpp's names; the prompt's time counts from when it was begun to the first token."""
    times = completion.times
    begun = completion.started or times.queued
    first = times.first_token or begun
    prompt_ms = (first - begun) * 1000
    predicted_ms = ((times.last_token or first) - first) * 1000
    computed = completion.prompt_tokens - completion.cached_tokens
    decoded = max(completion.completion_tokens - 1, 0)  # the first token is the prompt's
    return {
        "cache_n": completion.cached_tokens,
        **_pace("prompt", computed, computed, prompt_ms),
        **_pace("predicted", completion.completion_tokens, decoded, predicted_ms),
    }


def _pace(name: str, tokens: int, timed: int, milliseconds: float) -> dict[str, Any]:
    return {
        f"{name}_n": tokens,
        f"{name}_ms": round(milliseconds, 3),
        f"{name}_per_token_ms": round(milliseconds / timed, 3) if timed else None,
        f"{name}_per_second": round(timed / milliseconds * 1000, 3) if milliseconds else None,
    }


def _logprobs(logprobs: Iterable[TokenLogprob]) -> dict[str, Any] | None:
    content = [_shown(entry.token) | {"top_logprobs": [_shown(token) for token in entry.top]} for entry in logprobs]
    return {"content": content, "refusal": None} if content else None


def _shown(token: TokenText) -> dict[str, Any]:
    return {"token": token.text, "logprob": max(token.logprob, LOWEST_LOGPROB), "bytes": list(token.data)}
