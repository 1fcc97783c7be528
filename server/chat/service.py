"""Answers chats: prompt in, deltas out, with the engine in between. The front that the API talks to."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass

from server.chat.completion import Answers
from server.chat.constrained.compiler import COMPILED_AT_ONCE, CompiledGrammar, GrammarCompiler, WantedGrammar
from server.chat.constrained.grammar import CallMode, Grammar, call_grammar, text_grammar
from server.chat.markers import CALL_START
from server.chat.output.chat_choice import VISIBLE, CallReader, Choice
from server.chat.output.reasoning import ReasoningSplitter
from server.chat.prompt import ChatPrompt
from server.chat.sequences import check_token_ids, merged, sampling_of_choice
from server.chat.tokenizer import Tokenizer
from server.chat.tool_calls.constrained_parser import CallStream, FormReader
from server.chat.tool_calls.free_parser import ToolCallParser, ToolSignature
from server.chat.types import ChatRequest, Delta, Thoughts
from server.engine.engine import Engine
from server.engine.stream import TokenStream
from server.engine.types import GenerationRequest, PromptProgress, SamplingParams
from server.errors import ContextLengthError, InvalidRequestError


@dataclass(frozen=True, slots=True)
class ChatModel:
    """What belongs to the served model besides its graph; a sequence ends at one of `stop_token_ids`.

    `constrain_always`: tools are enforced under tool_choice auto too, not only where that was asked for.
    """

    tokenizer: Tokenizer
    prompt: ChatPrompt
    defaults: SamplingParams
    stop_token_ids: frozenset[int]
    grammars: GrammarCompiler
    constrain_always: bool = True


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request's prompt in tokens, what of thoughts comes behind it, and the grammar, if it needs one."""

    prompt: tuple[int, ...]
    checkpoints: tuple[int, ...]
    thoughts: Thoughts
    wanted: WantedGrammar | None


class Completion(Answers):
    """The answers to one chat while they are generated; `loosened` says what of the tools' schemas is not enforced."""

    def __init__(
        self, prompt_tokens: int, streams: list[TokenStream], choices: list[Choice], loosened: tuple[str, ...] = ()
    ) -> None:
        super().__init__(prompt_tokens, streams, n=len(streams))
        self.loosened = loosened
        self._choices = choices

    async def deltas(self) -> AsyncGenerator[tuple[int, Delta]]:
        """(choice, delta) as they come. Raises what made a sequence fail; cancels all of them when it is closed."""
        try:
            async with aclosing(merged(self._streams)) as events:
                async for i, event in events:
                    if isinstance(event, PromptProgress):
                        yield i, Delta(progress=event)
                        continue
                    self.completion_tokens += 1
                    self.times.token()
                    gained = list(self._choices[i].feed(event))
                    if self._choices[i].ended:
                        self._streams[i].cancel()  # before anybody waits: another token may have come by then
                        self.end(i, gained[-1].end)
                    for delta in gained:
                        yield i, delta
        finally:
            self.cancel()


class ChatService:
    """Starts completions on one engine."""

    def __init__(self, engine: Engine, model: ChatModel) -> None:
        self.engine = engine
        self.model = model
        self._compiling = ThreadPoolExecutor(COMPILED_AT_ONCE, thread_name_prefix="grammars")

    async def start(self, request: ChatRequest) -> Completion:
        """Render, tokenize and queue `request`.

        Raises InvalidRequestError (ContextLengthError where the prompt leaves no room), QueueFullError or
        ModelNotReadyError.
        """
        check_token_ids(request.sampling.logit_bias, self.engine.vocab_size, "logit_bias")
        check_token_ids(request.stop_token_ids, self.engine.vocab_size, "stop_token_ids")
        if request.n > (most := self.engine.most_at_once):
            raise InvalidRequestError(f"This server takes at most {most} choices at once; got n = {request.n}.", "n")
        self.engine.check_room(request.tenant, request.n)  # here too, so that what is refused costs nothing
        # Off the loop: long prompts take long, and grammars that are new longer. These wait in a line of their own.
        prepared = await asyncio.to_thread(self._prepare, request)
        grammar = await self._compiled(prepared.wanted) if prepared.wanted else None
        room = self.engine.max_model_len - len(prepared.prompt)
        max_tokens = room if request.max_tokens is None else min(request.max_tokens, room)
        streams = self.engine.submit(
            [self._sequence(request, prepared, grammar, max_tokens, choice) for choice in range(request.n)]
        )
        choices = [self._choice(request, prepared) for _ in streams]
        return Completion(len(prepared.prompt), streams, choices, grammar.loosened if grammar else ())

    def _prepare(self, request: ChatRequest) -> Prepared:
        prompt = self.model.prompt.tokens(request.messages, request.tools, request.template)
        if len(prompt) >= self.engine.max_model_len:
            raise ContextLengthError(len(prompt), self.engine.max_model_len)
        return Prepared(
            prompt=tuple(prompt),
            checkpoints=self.model.prompt.checkpoints(prompt),
            thoughts=self.model.prompt.thoughts(prompt),
            wanted=self._grammar(request),
        )

    async def _compiled(self, wanted: WantedGrammar) -> CompiledGrammar:
        grammars = self.model.grammars
        if (known := grammars.known(wanted)) is not None:
            return known
        return await asyncio.get_running_loop().run_in_executor(self._compiling, grammars.cached, wanted)

    def _grammar(self, request: ChatRequest) -> WantedGrammar | None:
        """What holds the answer to its form; None leaves it free."""
        calling, form = request.calling, request.text_form
        enforced = calling.required or form is not None or any(tool.strict for tool in calling.tools)
        if calling.tools and CALL_START not in self.model.tokenizer.special:
            if not enforced:
                return None
            raise InvalidRequestError("This model has no form of tool calls that could be enforced.", "tool_choice")
        tools = calling.tools if enforced or self.model.constrain_always else ()
        if not tools and form is None:
            return None

        def build() -> Grammar:
            if form is not None and not tools:
                return text_grammar(form)
            mode = CallMode.REQUIRED if calling.required else CallMode.AUTO
            return call_grammar(tools, mode, parallel=calling.parallel, text_form=form)

        told = [[tool.name, tool.parameters, tool.strict, tool.field] for tool in tools]
        asked = [told, calling.required, calling.parallel, form and [form.kind, form.value, form.field]]
        return WantedGrammar(hashlib.sha256(json.dumps(asked).encode()).hexdigest(), build)

    def _sequence(
        self,
        request: ChatRequest,
        prepared: Prepared,
        grammar: CompiledGrammar | None,
        max_tokens: int,
        choice: int,
    ) -> GenerationRequest:
        ends = frozenset() if request.ignore_eos and grammar is None else self.model.stop_token_ids
        return GenerationRequest(
            prompt=prepared.prompt,
            max_tokens=max_tokens,
            sampling=sampling_of_choice(request.sampling, choice),
            stop_token_ids=ends | request.stop_token_ids,
            min_tokens=request.min_tokens,
            constraint=grammar.start(prepared.thoughts) if grammar else None,
            tenant=request.tenant,
            priority=request.priority,
            cache_salt=request.cache_salt,
            name=request.name,
            checkpoints=prepared.checkpoints,
            report_progress=request.report_progress,
        )

    def _choice(self, request: ChatRequest, prepared: Prepared) -> Choice:
        visible = frozenset(self.model.tokenizer.special) if request.show_special_tokens else VISIBLE
        return Choice(
            tokenizer=self.model.tokenizer,
            stop=request.stop,
            calls=_reader(request, held=prepared.wanted is not None),
            reasoning=ReasoningSplitter(prepared.thoughts is Thoughts.OPEN) if self.model.prompt.thinks else None,
            visible=visible,
        )


def _reader(request: ChatRequest, *, held: bool) -> CallReader:
    """Calls are read as they are written where a grammar holds them to their form, else once they are closed."""
    tools = request.calling.tools
    if request.text_form is not None or (request.show_special_tokens and not tools):
        return FormReader(calls=bool(tools))
    return CallStream() if held else ToolCallParser(tuple(ToolSignature(tool.name, tool.properties) for tool in tools))
