"""Compiles grammars for a tokenizer and finds the allowed next tokens.

Compiling takes up to several hundred milliseconds. llguidance releases the GIL meanwhile.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from llguidance import LLMatcher, LLTokenizer

from server.chat.constrained.after_thinking import AfterThinking, ThoughtMarkers, forbid_tokens
from server.chat.constrained.grammar_source import GrammarSource
from server.chat.constrained.no_calls import MarkerWatch, NoCalls
from server.chat.constrained.vocabulary import Vocabulary
from server.chat.constrained.worker.client import Workers
from server.chat.constrained.worker.compilation import SLOW_MASK, check_mask, known_tokens, reason
from server.chat.constrained.worker.limits import CACHE_BYTES, MASK_SECONDS, parser_limits
from server.chat.constrained.worker.messages import Accepted
from server.chat.json_schema.normalize import too_large
from server.chat.markers import CALL_START
from server.chat.tokenizer import Tokenizer
from server.chat.types import Thoughts
from server.concurrency.background import in_background
from server.concurrency.fair_limit import FairLimit
from server.engine.sampling.constraint import Bitmask, Constraint
from server.errors import InvalidRequestError, LfmServeError
from server.runtime.machine.heap import trim_heap

CACHED_GRAMMARS = 256
PLACES = 2  # grammars compiled at once
PLACES_PER_TENANT = 1  # fewer than PLACES, so that one tenant never takes all places
TRIMMED_BYTES = 4 << 20  # the heap is trimmed if more than this is evicted at once


_LIMIT = re.compile("too many|max is", re.IGNORECASE)
"""The pattern of llguidance's messages about an exceeded limit."""


class ConstraintError(LfmServeError):
    """The model generated a token that the grammar does not allow."""


@dataclass(frozen=True, slots=True)
class CompiledGrammar:
    """A grammar compiled for one tokenizer. Any number of sequences can use it.

    matcher: the state before the first token. Each sequence copies it.
    known: mask of the tokens that have a text.
    end_tokens: the tokens that end an answer.
    opening_token: id of the token `opens_with` (see Grammar); None if the whole answer must match.
    marker_endings: the ordinary tokens that complete the opening marker of calls. The key is what an answer has
        written of the marker so far, such as b"<|tool_call".

    The fields `param`, `unenforced`, `size` and `repeats` are those of Accepted.
    """

    param: str
    unenforced: tuple[str, ...]
    size: int
    tokenizer: Tokenizer
    matcher: LLMatcher
    known: Bitmask
    end_tokens: tuple[int, ...]
    opening_token: int | None
    marker_endings: Mapping[bytes, tuple[int, ...]]
    thought_markers: ThoughtMarkers
    repeats: bool

    def start(self, thoughts: Thoughts = Thoughts.NONE, thinking_budget: int | None = None) -> Constraint:
        """Return the constraint of a new sequence.

        thoughts: whether thoughts, which are not constrained, may precede the answer.
        thinking_budget: maximum number of tokens in the thoughts; None if unlimited.
        """
        end_tokens = self.end_tokens if self.opening_token is None else ()
        if thoughts is Thoughts.NONE and (end_tokens or thinking_budget is None):
            return GrammarConstraint(self)
        is_open = thoughts is Thoughts.OPEN
        return AfterThinking(
            lambda: GrammarConstraint(self), self.thought_markers, end_tokens, is_open=is_open, budget=thinking_budget
        )


class GrammarConstraint:
    """The state of one sequence in its grammar.

    Call `mask` before each token and `commit` after it. If the grammar has an opening token, any text may precede that
    token.
    """

    def __init__(self, grammar: CompiledGrammar) -> None:
        self._grammar = grammar
        self._watch = MarkerWatch(grammar.tokenizer, grammar.marker_endings)
        self._matcher = grammar.matcher.deep_copy() if grammar.opening_token is None else None  # None in free text
        self._may_open = True

    def mask(self, out: Bitmask) -> bool:
        """Store in `out`, [mask_words(vocab_size)], which tokens may come next.

        Returns False, and leaves `out` unchanged, if every token may come next.
        Raises InvalidRequestError if no token may come next, or if computing the mask takes too long.
        """
        if self._matcher is not None:
            start = time.thread_time()
            self._matcher.unsafe_compute_mask_ptr(out.ctypes.data, out.nbytes)
            np.bitwise_and(out, self._grammar.known, out=out)
            check_mask(self._matcher, out, self._grammar.param, "the answer cannot be completed")
            if time.thread_time() - start > MASK_SECONDS:
                raise too_large(SLOW_MASK, self._grammar.param)
            return True
        return forbid_tokens(out, self._forbidden())

    def commit(self, token: int) -> None:
        """Advance by one token.

        Raises ConstraintError if the token is not allowed.
        Raises InvalidRequestError if advancing takes too much work.
        """
        if self._matcher is not None:
            if not self._matcher.consume_token(token):
                self._check()
            if self._grammar.opening_token is not None and self._matcher.is_stopped():
                self._matcher = None
                self._may_open = self._grammar.repeats
        elif token == self._grammar.opening_token and self._may_open:
            self._matcher = self._grammar.matcher.deep_copy()
            self._watch = MarkerWatch(self._grammar.tokenizer, self._grammar.marker_endings)
        else:
            self._watch.commit(token)

    def forced_tokens(self) -> list[int]:
        """Return the tokens that must come next, in order, without committing them."""
        return [] if self._matcher is None else self._matcher.compute_ff_tokens()

    def _forbidden(self) -> tuple[int, ...]:
        """Return the tokens that must not come next in free text.

        They would complete the opening marker of calls.
        """
        assert self._grammar.opening_token is not None
        endings = self._watch.forbidden()
        return endings if self._may_open else (self._grammar.opening_token, *endings)

    def _check(self) -> None:
        if self._matcher is None or not (error := self._matcher.get_error()):
            return
        if _LIMIT.search(error):
            raise too_large(reason(error), self._grammar.param)
        raise ConstraintError(f"The model generated a token that the grammar does not allow: {reason(error)}.")


class GrammarCompiler:
    """A compiler of grammars for one tokenizer, with a least-recently-used cache.

    A worker process tries out each grammar before this process compiles it. Call all methods except `start` and `load`
    on the event loop's thread.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, end_tokens: Sequence[int]) -> None:
        self._vocabulary = Vocabulary.of(tokenizer, vocab_size, end_tokens)
        self.workers = Workers(self._vocabulary)
        self._turns = FairLimit(PLACES, per_tenant=PLACES_PER_TENANT)
        self._tokenizer = tokenizer
        self._cache: OrderedDict[str, CompiledGrammar] = OrderedDict()
        self._cached_bytes = 0

    @cached_property
    def ll_tokenizer(self) -> LLTokenizer:
        """llguidance's tokenizer. Building it takes 0.2 s."""
        return self._vocabulary.ll_tokenizer(self._tokenizer.encode_literally)

    @cached_property
    def _known(self) -> Bitmask:
        return known_tokens(self._vocabulary.tokens)

    @cached_property
    def _marker_endings(self) -> dict[bytes, tuple[int, ...]]:
        return _marker_endings(CALL_START.encode(), self._vocabulary)

    @cached_property
    def _thought_markers(self) -> ThoughtMarkers:
        return ThoughtMarkers.of(self._tokenizer, self._vocabulary.tokens)

    def start(self) -> None:
        """Start the workers and build what the first constraint needs. Any thread may call this."""
        self.workers.start()
        _ = self.ll_tokenizer, self._known, self._marker_endings, self._thought_markers

    def no_calls(self) -> Constraint:
        """Return a new constraint that forbids calls."""
        return NoCalls(MarkerWatch(self._tokenizer, self._marker_endings))

    def constraint(
        self,
        grammar: CompiledGrammar | None,
        thoughts: Thoughts,
        thinking_budget: int | None,
        *,
        forbids_calls: bool,
    ) -> Constraint | None:
        """Return the constraint of a new sequence, or None if every token may come next.

        thinking_budget: maximum number of tokens in the thoughts; None if unlimited.
        forbids_calls: whether to forbid calls if there is no grammar.
        """
        if grammar is not None:
            return grammar.start(thoughts, thinking_budget)
        if thinking_budget is None:
            return self.no_calls() if forbids_calls else None
        is_open, answer = thoughts is Thoughts.OPEN, self.no_calls if forbids_calls else None
        return AfterThinking(answer, self._thought_markers, (), is_open=is_open, budget=thinking_budget)

    def find_cached(self, source: GrammarSource) -> CompiledGrammar | None:
        """Return the grammar of `source`, or None if it is not cached."""
        if source.key in self._cache:
            self._cache.move_to_end(source.key)
        return self._cache.get(source.key)

    async def get(self, source: GrammarSource, tenant: str) -> CompiledGrammar:
        """Return the grammar of `source`, from the cache or newly compiled.

        Raises InvalidRequestError if the grammar is invalid or exceeds a limit.
        Raises ModelNotReadyError if the worker does not start or is killed.
        Raises GrammarAnalysisError if the worker fails because of a bug.
        """
        if (cached := self.find_cached(source)) is not None:
            return cached
        async with self._turns.place(tenant):
            if (cached := self.find_cached(source)) is not None:
                return cached
            # In another process, because a costly grammar could block or crash the server.
            accepted = await self.workers.analyse(source)
            compiled = await asyncio.wrap_future(in_background(lambda: self.load(accepted), "grammar"))
        self._add(source.key, compiled)
        return compiled

    def load(self, accepted: Accepted) -> CompiledGrammar:
        """Compile a grammar that a worker has accepted. Any thread may call this.

        Raises InvalidRequestError if the tokenizer lacks the token `opens_with`.
        """
        opening_token = None
        if accepted.opens_with is not None:
            opening_token = self._tokenizer.special.get(accepted.opens_with)
            if opening_token is None:
                message = f"This model cannot call tools: its tokenizer has no token {accepted.opens_with}."
                raise InvalidRequestError(message, "tools")
        limits = parser_limits(accepted.arguments)
        matcher = LLMatcher(self.ll_tokenizer, accepted.lark, log_level=0, limits=limits)
        matcher.compute_bitmask()  # the first mask may take as long as compiling
        return CompiledGrammar(
            param=accepted.param,
            unenforced=accepted.unenforced,
            size=accepted.size,
            tokenizer=self._tokenizer,
            matcher=matcher,
            known=self._known,
            end_tokens=self._vocabulary.end_tokens,
            opening_token=opening_token,
            marker_endings=self._marker_endings,
            thought_markers=self._thought_markers,
            repeats=accepted.repeats,
        )

    def _add(self, key: str, compiled: CompiledGrammar) -> None:
        """Cache a grammar, evicting the least recently used ones if necessary."""
        if key in self._cache:
            return
        self._cache[key] = compiled
        self._cached_bytes += compiled.size
        evicted = 0
        while len(self._cache) > CACHED_GRAMMARS or self._cached_bytes > CACHE_BYTES:
            _, oldest = self._cache.popitem(last=False)
            evicted += oldest.size
            self._cached_bytes -= oldest.size
            del oldest
        if evicted > TRIMMED_BYTES:  # give the memory back to the operating system
            in_background(trim_heap, "trim")


def _marker_endings(marker: bytes, vocabulary: Vocabulary) -> dict[bytes, tuple[int, ...]]:
    """Return the ordinary tokens that may complete `marker`.

    The key is what an answer has written of the marker so far. Example: for the key b"<|tool_call_", all ordinary
    tokens that begin with `start|>`.
    """
    ends = tuple(marker[i:] for i in range(1, len(marker)))
    texts = {token: text for token, text in enumerate(vocabulary.tokens) if text.startswith(ends)}
    for token in vocabulary.special:
        texts.pop(token, None)
    return {marker[: -len(end)]: tuple(token for token in texts if texts[token].startswith(end)) for end in ends}
