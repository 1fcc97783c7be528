"""Continues texts: prompts in, deltas out, with the engine in between. No template, no tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from server.chat.completion import Answers
from server.chat.output.detokenizer import whole_text
from server.chat.output.text_choice import Prompt, TextChoice, TextDelta
from server.chat.sequences import check_token_ids, merged, sampling_of_choice
from server.chat.tokenizer import Tokenizer
from server.engine.engine import Engine
from server.engine.stream import TokenStream
from server.engine.types import GenerationRequest, PromptLogprobs, SamplingParams, TokenEvent
from server.errors import ContextLengthError, InvalidRequestError


@dataclass(frozen=True, slots=True)
class TextRequest:
    """Texts, or token ids as they are, to continue `n` times each. Choice i of a prompt is drawn with `seed` + i.

    `echo` repeats the prompt before the answer, with its tokens' log-probabilities if `sampling` asks for them;
    `max_tokens` may then be 0. `stop_token_ids` are added to the model's own, which `ignore_eos` leaves out.
    `add_special_tokens` puts the model's BOS in front of texts, `show_special_tokens` keeps special tokens in the
    answer; `tenant`, `priority`, `cache_salt` and `name` are GenerationRequest's.
    """

    prompts: tuple[str | tuple[int, ...], ...]
    sampling: SamplingParams
    max_tokens: int
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    n: int = 1
    echo: bool = False
    add_special_tokens: bool = True
    show_special_tokens: bool = False
    tenant: str = ""
    priority: int = 0
    cache_salt: str = ""
    name: str = ""


class TextCompletion(Answers):
    """The answers to all prompts of a request while they are generated."""

    def __init__(self, prompt_tokens: int, streams: list[TokenStream], n: int, choices: list[TextChoice]) -> None:
        super().__init__(prompt_tokens, streams, n)
        self._choices = choices

    async def deltas(self) -> AsyncGenerator[tuple[int, TextDelta]]:
        """(choice, delta) as they come. Raises what made a sequence fail; cancels all of them when it is closed."""
        try:
            async with aclosing(merged([_events(stream) for stream in self._streams])) as events:
                async for i, event in events:
                    if isinstance(event, TokenEvent):
                        self.completion_tokens += 1
                        self.times.token()
                    delta = self._choices[i].feed(event)
                    if self._choices[i].ended:
                        self._streams[i].cancel()  # before anybody waits: another token may have come by then
                        self.end(i, delta.end)
                    if delta:
                        yield i, delta
        finally:
            self.cancel()


class TextService:
    """Starts text completions on one engine; a sequence ends at one of `stop_token_ids`."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, stop_token_ids: frozenset[int]) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._stop_token_ids = stop_token_ids

    async def start(self, request: TextRequest) -> TextCompletion:
        """Tokenize and queue `request`.

        Raises InvalidRequestError (ContextLengthError where a prompt leaves no room), QueueFullError or
        ModelNotReadyError.
        """
        self._check(request)
        # Here too, so that what is refused costs nothing.
        self._engine.check_room(request.tenant, len(request.prompts) * request.n)
        # Off the loop: long prompts take long to tokenize.
        prompts = await asyncio.to_thread(lambda: [self._prompt(request, prompt) for prompt in request.prompts])
        sequences = [self._sequence(request, prompt, choice) for prompt in prompts for choice in range(request.n)]
        scored = request.sampling.top_logprobs is not None
        visible = frozenset(self._tokenizer.special if request.show_special_tokens else ())
        choices = [
            TextChoice(self._tokenizer, request.stop, prompt if request.echo else None, scored, visible)
            for prompt in prompts
            for _ in range(request.n)
        ]
        prompt_tokens = sum(len(prompt.tokens) for prompt in prompts)
        return TextCompletion(prompt_tokens, self._engine.submit(sequences), request.n, choices)

    def _check(self, request: TextRequest) -> None:
        vocab_size = self._engine.vocab_size
        check_token_ids(request.sampling.logit_bias, vocab_size, "logit_bias")
        check_token_ids(request.stop_token_ids, vocab_size, "stop_token_ids")
        for prompt in request.prompts:
            if not isinstance(prompt, str):
                check_token_ids(prompt, vocab_size, "prompt")
        asked, limit = len(request.prompts) * request.n, self._engine.most_at_once
        if asked > limit:
            raise InvalidRequestError(
                f"{len(request.prompts)} prompts times n = {request.n} are {asked} choices; this server takes at most "
                f"{limit} at once. Please send them in several requests.",
                "prompt",
            )

    def _prompt(self, request: TextRequest, prompt: str | tuple[int, ...]) -> Prompt:
        if isinstance(prompt, str):
            tokens = self._tokenizer.encode(prompt)
            beginning = self._tokenizer.beginning(tokens) if request.add_special_tokens else []
            if not beginning + tokens:
                raise InvalidRequestError("An empty prompt is no token of this model: send some text.", "prompt")
            return Prompt(prompt, (*beginning, *tokens), implicit=len(beginning))
        return Prompt(whole_text(self._tokenizer, prompt), prompt)

    def _sequence(self, request: TextRequest, prompt: Prompt, choice: int) -> GenerationRequest:
        room = self._engine.max_model_len - len(prompt.tokens)
        if room < min(request.max_tokens, 1):
            raise ContextLengthError(len(prompt.tokens), self._engine.max_model_len, "prompt")
        scored = request.echo and request.sampling.top_logprobs is not None
        ends = frozenset() if request.ignore_eos else self._stop_token_ids
        return GenerationRequest(
            prompt=prompt.tokens,
            max_tokens=min(request.max_tokens, room),
            sampling=sampling_of_choice(request.sampling, choice),
            stop_token_ids=ends | request.stop_token_ids,
            min_tokens=request.min_tokens,
            prompt_logprobs=request.sampling.top_logprobs if scored else None if request.max_tokens else 0,
            tenant=request.tenant,
            priority=request.priority,
            cache_salt=request.cache_salt,
            name=request.name,
        )


async def _events(stream: TokenStream) -> AsyncGenerator[PromptLogprobs | TokenEvent]:
    if (prompt := await stream.prompt_logprobs()) is not None:
        yield prompt
    async for event in stream:
        if isinstance(event, TokenEvent):
            yield event
