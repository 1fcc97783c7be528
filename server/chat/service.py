"""Starts completions: turns chats and texts into sequences for the engine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from server.chat.completion import Completion
from server.chat.constrained.compiler import CompiledGrammar, GrammarCompiler
from server.chat.constrained.grammar_source import GrammarSource, grammar_source
from server.chat.markers import CALL_START
from server.chat.output.call_parser import call_parser
from server.chat.output.chat_choice import VISIBLE, ChatChoice
from server.chat.output.detokenizer import whole_text
from server.chat.output.text_choice import TextChoice, TextChoiceDelta, TextPrompt
from server.chat.prompt import ChatPrompt
from server.chat.prompt_tokens import PromptTokens, truncated
from server.chat.thinking import ThinkingBudgets
from server.chat.tokenizer import Tokenizer
from server.chat.types import Calling, ChatRequest, Delta, TextForm, TextRequest, Thoughts
from server.concurrency.fair_thread_pool import FairThreadPool
from server.engine.engine import Engine
from server.engine.types import GenerationRequest, RequestContext, SamplingParams
from server.errors import ContextLengthError, InvalidRequestError

SEEDS = 2**64
PROMPT_THREADS = 2  # threads that render and tokenize prompts; more would slow the engine down


@dataclass(frozen=True, slots=True)
class ChatModel:
    """The tokenizer, prompt templates, grammars and default settings of a model.

    defaults: default values of the sampling parameters.
    stop_token_ids: tokens that end a sequence.
    constrain_always: whether to enforce tool schemas if `tool_choice` is auto.
    """

    tokenizer: Tokenizer
    prompt: ChatPrompt
    defaults: SamplingParams
    stop_token_ids: frozenset[int]
    grammars: GrammarCompiler
    constrain_always: bool = True
    thinking: ThinkingBudgets = field(default_factory=ThinkingBudgets)


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """The server's limits on one request.

    max_n: maximum number of choices for one prompt (`--max-n`).
    max_output_tokens: maximum number of tokens in each answer (`--max-output-tokens`); None if unlimited.
    """

    max_n: int = 8
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class RenderedChat:
    """A tokenized chat and the grammar of its answer.

    checkpoints: the result of `ChatPrompt.checkpoints`.
    grammar: None if no grammar constrains the answer.
    """

    prompt: tuple[int, ...]
    checkpoints: tuple[int, ...]
    thoughts: Thoughts
    grammar: GrammarSource | None


class ChatService:
    """The service that starts completions. Call it only on the event loop's thread."""

    def __init__(self, engine: Engine, model: ChatModel, limits: AnswerLimits = AnswerLimits()) -> None:
        self.engine = engine
        self.model = model
        self.prompts = PromptTokens(model.tokenizer, model.prompt, model.thinking)
        self._limits = limits
        self._pool = FairThreadPool(PROMPT_THREADS, "prompts")

    async def close(self, deadline: float) -> None:
        """Stop the engine by `deadline` (see `Engine.stop`), and end the grammar workers."""
        await self.engine.stop(deadline)
        self.model.grammars.workers.close()

    @property
    def defaults(self) -> SamplingParams:
        """The default values of the sampling parameters."""
        return self.model.defaults

    @property
    def max_model_len(self) -> int:
        """The maximum number of tokens in a prompt and its answer together."""
        return self.engine.max_model_len

    async def chat(self, request: ChatRequest, context: RequestContext) -> Completion[Delta]:
        """Render, tokenize and queue a chat.

        Raises InvalidRequestError, ContextLengthError, QueueFullError, ModelNotReadyError or GrammarAnalysisError.
        """
        self._check(request)
        most = self.engine.max_sequences_per_request
        if request.n > most:
            raise InvalidRequestError(f"n must be at most {most} on this server; got {request.n}.", "n")
        with self.engine.reserve(context.tenant, request.n) as places:
            chat = await self._pool.run(context.tenant, lambda: self._render(request))
            grammar = await self.model.grammars.get(chat.grammar, context.tenant) if chat.grammar else None
            streams = places.submit([self._sequence(request, context, chat, grammar, i) for i in range(request.n)])
        choices = [self._chat_choice(request, chat) for _ in streams]
        return Completion([chat.prompt], streams, choices, grammar.unenforced if grammar else ())

    async def complete(self, request: TextRequest, context: RequestContext) -> Completion[TextChoiceDelta]:
        """Tokenize and queue texts for the model to continue, without a chat template.

        Raises the same errors as `chat`.
        """
        self._check(request)
        self._check_prompts(request)
        with self.engine.reserve(context.tenant, len(request.prompts) * request.n) as places:
            prompts = await self._pool.run(
                context.tenant, lambda: [self._text_prompt(request, one) for one in request.prompts]
            )
            source = self._grammar_source(Calling(), request.text_form)
            grammar = await self.model.grammars.get(source, context.tenant) if source else None
            streams = places.submit(
                [
                    self._continuation(request, context, prompt, grammar, i)
                    for prompt in prompts
                    for i in range(request.n)
                ]
            )
        choices = [self._text_choice(request, prompt) for prompt in prompts for _ in range(request.n)]
        return Completion([prompt.tokens for prompt in prompts], streams, choices)

    async def tokenize(self, prompt: str | ChatRequest, tenant: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the tokens of a text or of a chat's prompt.

        add_special_tokens: whether to put the model's BOS before a text.

        Raises InvalidRequestError if the chat cannot be rendered.
        """
        if isinstance(prompt, str):
            text = prompt
            return await self._pool.run(
                tenant, lambda: self.prompts.of_text(text, add_special_tokens=add_special_tokens)
            )
        return await self._pool.run(tenant, lambda: self.prompts.of_chat(prompt))

    def token_text(self, token: int) -> str:
        """Return one token's text, with U+FFFD in place of incomplete characters."""
        return self.model.tokenizer.token_bytes(token).decode("utf-8", "replace")

    async def detokenize(self, tokens: Sequence[int], tenant: str) -> str:
        """Return the text of tokens, including special tokens.

        Raises InvalidRequestError if an id is not in the vocabulary.
        """

        def text() -> str:
            self._check_token_ids(tokens, "tokens")
            return whole_text(self.model.tokenizer, tokens)

        return await self._pool.run(tenant, text)

    def _check(self, request: ChatRequest | TextRequest) -> None:
        if request.n > (most := self._limits.max_n):
            raise InvalidRequestError(f"n must be at most {most} on this server (--max-n); got {request.n}.", "n")
        self._check_token_ids(request.sampling.logit_bias, "logit_bias")
        self._check_token_ids(request.stop_token_ids, "stop_token_ids")

    def _check_prompts(self, request: TextRequest) -> None:
        for prompt in request.prompts:
            if not isinstance(prompt, str):
                self._check_token_ids(prompt, "prompt")
        if (count := len(request.prompts) * request.n) > (most := self.engine.max_sequences_per_request):
            raise InvalidRequestError(
                f"{len(request.prompts)} prompts with n = {request.n} make {count} choices, but a request may have at "
                f"most {most}. Divide the prompts among several requests.",
                "prompt",
            )

    def _check_token_ids(self, tokens: Iterable[int], field: str) -> None:
        last = self.engine.vocab_size - 1
        for token in tokens:
            if not 0 <= token <= last:
                raise InvalidRequestError(f"{token} is not a token id of this model: ids go from 0 to {last}.", field)

    def _render(self, request: ChatRequest) -> RenderedChat:
        prompt = self.prompts.of_chat(request)
        if len(prompt) >= self.max_model_len and request.truncate:
            prompt = truncated(request, self.prompts.of_chat, self.max_model_len) or prompt
        if len(prompt) >= self.max_model_len:
            raise ContextLengthError(len(prompt), self.max_model_len)
        return RenderedChat(
            prompt=tuple(prompt),
            checkpoints=self.model.prompt.checkpoints(prompt),
            thoughts=self.model.prompt.thoughts(prompt),
            grammar=self._grammar_source(request.calling, request.text_form),
        )

    def _grammar_source(self, calling: Calling, text_form: TextForm | None) -> GrammarSource | None:
        call_form, always = self.model.prompt.call_form, self.model.constrain_always
        return grammar_source(calling, text_form, call_form=call_form, constrain_always=always)

    def _sequence(
        self,
        request: ChatRequest,
        context: RequestContext,
        chat: RenderedChat,
        grammar: CompiledGrammar | None,
        choice: int,
    ) -> GenerationRequest:
        ends = frozenset() if request.ignore_eos and grammar is None else self.model.stop_token_ids
        sampling, special = request.sampling, self.model.tokenizer.special
        forbids_calls = request.calling.forbidden and grammar is None and CALL_START in special
        if forbids_calls:
            sampling = replace(sampling, logit_bias={**sampling.logit_bias, special[CALL_START]: -math.inf})
        budget = self.model.thinking.of(request.thinking) if self.model.prompt.thinks else None
        return GenerationRequest(
            prompt=chat.prompt,
            max_tokens=self._max_tokens(request.max_tokens, chat.prompt),
            sampling=_sampling_of_choice(sampling, choice),
            stop_token_ids=ends | request.stop_token_ids,
            min_tokens=request.min_tokens,
            constraint=self.model.grammars.constraint(grammar, chat.thoughts, budget, forbids_calls=forbids_calls),
            checkpoints=chat.checkpoints,
            report_progress=request.report_progress,
            context=context,
        )

    def _chat_choice(self, request: ChatRequest, chat: RenderedChat) -> ChatChoice:
        special = frozenset(self.model.tokenizer.special)
        return ChatChoice(
            tokenizer=self.model.tokenizer,
            stop=request.stop,
            call_parser=call_parser(
                request, constrained=chat.grammar is not None, has_marker=self.model.prompt.call_form is None
            ),
            max_calls=request.calling.max_calls if request.calling.parallel else 1,
            thoughts=chat.thoughts if self.model.prompt.thinks else None,
            includes_thoughts=request.thinking.included,
            visible=special if request.show_special_tokens else VISIBLE,
        )

    def _text_prompt(self, request: TextRequest, prompt: str | tuple[int, ...]) -> TextPrompt:
        if not isinstance(prompt, str):
            return TextPrompt(whole_text(self.model.tokenizer, prompt), prompt)
        tokens = self.model.tokenizer.encode(prompt)
        beginning = self.model.tokenizer.beginning(tokens) if request.add_special_tokens else []
        if not beginning + tokens:
            raise InvalidRequestError("The prompt contains no tokens. Send some text.", "prompt")
        return TextPrompt(prompt, (*beginning, *tokens), implicit=len(beginning))

    def _continuation(
        self,
        request: TextRequest,
        context: RequestContext,
        prompt: TextPrompt,
        grammar: CompiledGrammar | None,
        choice: int,
    ) -> GenerationRequest:
        if self.max_model_len - len(prompt.tokens) < min(request.max_tokens, 1):
            raise ContextLengthError(len(prompt.tokens), self.max_model_len, "prompt")
        scored = request.echo and request.sampling.top_logprobs is not None
        ends = frozenset() if request.ignore_eos and grammar is None else self.model.stop_token_ids
        return GenerationRequest(
            prompt=prompt.tokens,
            max_tokens=self._max_tokens(request.max_tokens, prompt.tokens),
            sampling=_sampling_of_choice(request.sampling, choice),
            stop_token_ids=ends | request.stop_token_ids,
            min_tokens=request.min_tokens,
            constraint=grammar.start() if grammar else None,
            prompt_logprobs=request.sampling.top_logprobs if scored else None if request.max_tokens else 0,
            context=context,
        )

    def _text_choice(self, request: TextRequest, prompt: TextPrompt) -> TextChoice:
        return TextChoice(
            tokenizer=self.model.tokenizer,
            stop=request.stop,
            echo=prompt if request.echo else None,
            scored=request.sampling.top_logprobs is not None,
            visible=frozenset(self.model.tokenizer.special if request.show_special_tokens else ()),
        )

    def _max_tokens(self, requested: int | None, prompt: tuple[int, ...]) -> int:
        """Return how many answer tokens the request, the server and the context allow."""
        limits = (requested, self._limits.max_output_tokens, self.max_model_len - len(prompt))
        return min(limit for limit in limits if limit is not None)


def _sampling_of_choice(sampling: SamplingParams, choice: int) -> SamplingParams:
    """Return the sampling parameters of a choice. Choice i adds i to the seed."""
    return sampling if sampling.seed is None else replace(sampling, seed=(sampling.seed + choice) % SEEDS)
