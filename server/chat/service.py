"""Answers chats: prompt in, deltas out, with the engine in between. The front that the API talks to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from server.chat.generation import Choice
from server.chat.prompt import ChatPrompt
from server.chat.tokenizer import Tokenizer
from server.chat.tool_parser import ToolSignature
from server.chat.types import ChatRequest, Delta
from server.engine.engine import Engine, TokenStream
from server.engine.types import GenerationRequest, SamplingParams, TokenEvent
from server.errors import ContextLengthError, InvalidRequestError

SEEDS = 2**64


@dataclass(frozen=True, slots=True)
class ChatModel:
    """What belongs to the served model besides its graph; a sequence ends at one of `stop_token_ids`."""

    tokenizer: Tokenizer
    prompt: ChatPrompt
    defaults: SamplingParams
    stop_token_ids: frozenset[int]


class Completion:
    """The answers to one chat while they are generated. `completion_tokens` counts those of all choices so far."""

    def __init__(self, prompt_tokens: int, streams: list[TokenStream], choices: list[Choice]) -> None:
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = 0
        self._streams = streams
        self._choices = choices

    async def deltas(self) -> AsyncGenerator[tuple[int, Delta]]:
        """(choice, delta) as they come. Raises what made a sequence fail; cancels all of them when it is closed."""
        try:
            async with aclosing(_merged(self._streams)) as events:
                async for i, event in events:
                    self.completion_tokens += 1
                    for delta in self._choices[i].feed(event):
                        yield i, delta
                    if self._choices[i].ended:
                        self._streams[i].cancel()
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Stop generating, whether anybody listened or not."""
        for stream in self._streams:
            stream.cancel()


class ChatService:
    """Starts completions on one engine."""

    def __init__(self, engine: Engine, model: ChatModel) -> None:
        self.engine = engine
        self.model = model

    async def start(self, request: ChatRequest) -> Completion:
        """Render, tokenize and queue `request`.

        Raises InvalidRequestError (ContextLengthError where the prompt leaves no room), QueueFullError or
        ModelNotReadyError.
        """
        self._check_logit_bias(request.sampling)
        # Off the loop: a long prompt takes long to tokenize.
        prompt = await asyncio.to_thread(self.model.prompt.tokens, request.messages, request.tools)
        room = self.engine.max_model_len - len(prompt)
        if room < 1:
            raise ContextLengthError(len(prompt), self.engine.max_model_len)
        max_tokens = room if request.max_tokens is None else min(request.max_tokens, room)
        streams = self.engine.submit(
            [
                GenerationRequest(
                    prompt=tuple(prompt),
                    max_tokens=max_tokens,
                    sampling=_sampling_of_choice(request.sampling, i),
                    stop_token_ids=self.model.stop_token_ids,
                )
                for i in range(request.n)
            ]
        )
        tools = tuple(ToolSignature(tool.name, tool.properties) for tool in request.tools)
        choices = [Choice(self.model.tokenizer, request.stop, tools) for _ in streams]
        return Completion(len(prompt), streams, choices)

    def _check_logit_bias(self, sampling: SamplingParams) -> None:
        for token in sampling.logit_bias:
            if not 0 <= token < self.engine.vocab_size:
                last = self.engine.vocab_size - 1
                raise InvalidRequestError(f"{token} is no token of this model: ids go from 0 to {last}.", "logit_bias")


def _sampling_of_choice(sampling: SamplingParams, choice: int) -> SamplingParams:
    return sampling if sampling.seed is None else replace(sampling, seed=(sampling.seed + choice) % SEEDS)


async def _merged(streams: list[TokenStream]) -> AsyncGenerator[tuple[int, TokenEvent]]:
    """The events of all streams as they come."""
    if len(streams) == 1:
        async for event in streams[0]:
            yield 0, event
        return
    pending = {asyncio.ensure_future(anext(stream)): i for i, stream in enumerate(streams)}
    try:
        while pending:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                i = pending.pop(task)
                try:
                    event = task.result()
                except StopAsyncIteration:
                    continue
                pending[asyncio.ensure_future(anext(streams[i]))] = i
                yield i, event
    finally:
        for task in pending:
            if not task.cancel() and not task.cancelled():
                task.exception()  # looked at: one failure has been raised already
