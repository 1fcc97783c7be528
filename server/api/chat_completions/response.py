"""Builds chat answers in OpenAI's format, as one body or as chunks of a stream."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.chat_completions.tool_call_response import CallAssembler
from server.api.chat_completions.wire import (
    ChatCompletion,
    ChatCompletionChoice,
    ChatCompletionChunk,
    ChatCompletionChunkChoice,
    ChatCompletionMessage,
    ChatFinishReason,
    ChoiceDelta,
    ChoiceLogprobs,
    PrefillProgress,
    Timings,
)
from server.api.generation.envelope import Envelope, usage
from server.api.generation.logprobs import token_logprob
from server.chat.completion import AnyCompletion, Completion
from server.chat.types import ChoiceEnd, Delta, TokenLogprob
from server.engine.types import PromptProgress


class Chunks:
    """Builds the chunks of one stream."""

    def __init__(self, envelope: Envelope, completion: Completion[Delta], body: ChatCompletionRequest) -> None:
        options = body.stream_options
        self._envelope = envelope
        self._completion = completion
        self._usage_in_each = bool(options and options.continuous_usage_stats)
        self.usage_at_end = bool(options and options.include_usage)
        self._token_ids = bool(body.return_token_ids)
        self._pending_ids: defaultdict[int, list[int]] = defaultdict(list)  # token IDs not yet sent, by choice
        self._calls = [CallAssembler.of(body) for _ in range(completion.n)]

    def opening(self, choice: int) -> ChatCompletionChunk:
        """Return the first chunk of a choice."""
        chunk = self._chunk(choice, {"role": "assistant", "content": "", "refusal": None})
        if self._token_ids:
            chunk["prompt_token_ids"] = self._completion.prompts[0]
        return chunk

    def delta(self, choice: int, delta: Delta) -> ChatCompletionChunk | None:
        """Return the chunk for `delta`, or None if there is nothing to send yet."""
        gained: ChoiceDelta = {"content": delta.content} if delta.content else {}
        if delta.reasoning:
            gained["reasoning_content"] = delta.reasoning
        if delta.tool_call is not None:
            gained |= self._calls[choice].add(delta.tool_call)
        if self._token_ids:
            self._pending_ids[choice] += delta.token_ids
        if not (gained or delta.logprobs or delta.end or delta.progress):
            return None
        finish_reason = self._calls[choice].finish_reason(delta.end) if delta.end else None
        chunk = self._chunk(choice, gained, finish_reason, delta.logprobs)
        if self._token_ids:
            chunk["choices"][0]["token_ids"] = self._pending_ids.pop(choice, [])
        if delta.progress:
            chunk["prompt_progress"] = progress(delta.progress)
        return chunk

    def usage(self) -> ChatCompletionChunk:
        """Return the final chunk, with the usage and no choices."""
        chunk = self._wrap([])
        chunk["usage"] = usage(self._completion)
        return chunk

    def _chunk(
        self,
        choice: int,
        delta: ChoiceDelta,
        finish_reason: ChatFinishReason | None = None,
        logprobs: Sequence[TokenLogprob] = (),
    ) -> ChatCompletionChunk:
        chunk = self._wrap(
            [{"index": choice, "delta": delta, "logprobs": _logprobs(logprobs), "finish_reason": finish_reason}]
        )
        if finish_reason is not None:
            chunk["timings"] = timings(self._completion)
        if self._usage_in_each:
            chunk["usage"] = usage(self._completion)
        elif self.usage_at_end:
            chunk["usage"] = None
        return chunk

    def _wrap(self, choices: list[ChatCompletionChunkChoice]) -> ChatCompletionChunk:
        envelope = self._envelope
        return {
            "id": envelope.id,
            "object": "chat.completion.chunk",
            "created": envelope.created,
            "model": envelope.model,
            "system_fingerprint": envelope.fingerprint,
            "choices": choices,
        }


@dataclass(slots=True)
class ChoiceBody:
    """One choice of a non-streamed answer, collected from deltas."""

    calls: CallAssembler
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    end: ChoiceEnd | None = None

    @classmethod
    def of(cls, body: ChatCompletionRequest) -> ChoiceBody:
        """Return an empty choice for the request `body`."""
        return cls(CallAssembler.of(body))

    def add(self, delta: Delta) -> None:
        """Append `delta`."""
        self.content.append(delta.content)
        self.reasoning.append(delta.reasoning)
        if delta.tool_call is not None:
            self.calls.add(delta.tool_call)
        self.logprobs += delta.logprobs
        self.token_ids += delta.token_ids
        self.end = delta.end

    def to_json(self, index: int) -> ChatCompletionChoice:
        """Return the complete choice."""
        assert self.end is not None
        content, reasoning = "".join(self.content), "".join(self.reasoning)
        message: ChatCompletionMessage = {
            "role": "assistant",
            "content": (content or None) if self.calls.calls else content,
            "refusal": None,
        }
        self.calls.put_into(message)
        if reasoning:
            message["reasoning_content"] = reasoning
        return {
            "index": index,
            "message": message,
            "logprobs": _logprobs(self.logprobs),
            "finish_reason": self.calls.finish_reason(self.end),
        }


def chat_body(
    envelope: Envelope, completion: Completion[Delta], choices: Sequence[ChoiceBody], *, token_ids: bool
) -> ChatCompletion:
    """Return the body of a non-streamed answer."""
    entries = [choice.to_json(i) for i, choice in enumerate(choices)]
    answer: ChatCompletion = {
        "id": envelope.id,
        "object": "chat.completion",
        "created": envelope.created,
        "model": envelope.model,
        "system_fingerprint": envelope.fingerprint,
        "choices": entries,
        "usage": usage(completion),
        "timings": timings(completion),
    }
    if token_ids:
        for entry, choice in zip(entries, choices, strict=True):
            entry["token_ids"] = choice.token_ids
        answer["prompt_token_ids"] = completion.prompts[0]
    return answer


def progress(progress: PromptProgress) -> PrefillProgress:
    """Return the progress of a prefill, in llama.cpp's format."""
    return {
        "total": progress.total,
        "cache": progress.cached,
        "processed": progress.processed,
        "time_ms": round(progress.seconds * 1000, 3),
    }


def timings(completion: AnyCompletion) -> Timings:
    """Return a completion's token counts and durations, in llama.cpp's format."""
    times = completion.times
    begun = completion.started or times.queued
    first = times.first_token or begun
    prompt_ms = (first - begun) * 1000
    predicted_ms = ((times.last_token or first) - first) * 1000
    computed = completion.prompt_tokens - completion.cached_tokens
    decoded = max(completion.completion_tokens - 1, 0)  # prefill yields the first token
    return {
        "cache_n": completion.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": round(prompt_ms, 3),
        "prompt_per_token_ms": _ratio(prompt_ms, computed),
        "prompt_per_second": _ratio(computed, prompt_ms / 1000),
        "predicted_n": completion.completion_tokens,
        "predicted_ms": round(predicted_ms, 3),
        "predicted_per_token_ms": _ratio(predicted_ms, decoded),
        "predicted_per_second": _ratio(decoded, predicted_ms / 1000),
    }


def _ratio(amount: float, divisor: float) -> float | None:
    return round(amount / divisor, 3) if divisor else None


def _logprobs(logprobs: Sequence[TokenLogprob]) -> ChoiceLogprobs | None:
    return {"content": [token_logprob(entry) for entry in logprobs], "refusal": None} if logprobs else None
