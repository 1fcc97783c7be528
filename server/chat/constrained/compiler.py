"""Compiles grammars for a tokenizer and applies them to sequences: which tokens may come next, which must.

Compiling takes one millisecond to several hundred and must not run on the event loop; llguidance releases the GIL
meanwhile. Knows neither tools nor schemas.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from server.chat.constrained.after_thinking import AfterThinking, forbid_tokens, think_starts
from server.chat.constrained.grammar import Grammar
from server.chat.constrained.no_calls import MarkerWatch, NoCalls
from server.chat.constrained.sandbox import LIMITS, SECONDS, Sandbox
from server.chat.json_schema.normalize import too_large
from server.chat.markers import CALL_START
from server.chat.tokenizer import Tokenizer
from server.chat.types import Thoughts
from server.engine.sampling.constraint import Bitmask, Constraint
from server.errors import InvalidRequestError, LfmServeError

CACHED_GRAMMARS = 256
CACHED_CHARACTERS = 16 << 20  # total Grammar.size of the cached grammars
COMPILED_AT_ONCE = 2

# Parts of llguidance's error messages that refer to lines of the grammar.
_SOURCE_LINE = re.compile(r"\d+ \||\^")
_POSITION = re.compile(r"^(?:(?:at )?\d+\(\d+\):? *)+|\(at .*")


class ConstraintError(LfmServeError):
    """A grammar cannot continue: its last token was not allowed, or the next one would take too much work to find."""


@dataclass(frozen=True, slots=True)
class CompiledGrammar:
    """A grammar compiled for one tokenizer, from which any number of sequences can start.

    `unenforced`, `size` and `repeats` are those of the Grammar. `matcher` is the state before the first token, which
    each sequence copies. `end_tokens` end an answer. `opening_token` is the id of the grammar's `opens_with`, None if
    the grammar applies to the whole answer. `marker_endings` maps each proper prefix of that token's text to the tokens
    that would complete the text without being the token. `think_starts` is the result of `think_starts()`.
    """

    unenforced: tuple[str, ...]
    size: int
    tokenizer: Tokenizer
    matcher: LLMatcher
    end_tokens: tuple[int, ...]
    opening_token: int | None
    marker_endings: Mapping[bytes, tuple[int, ...]]
    think_starts: Mapping[bytes, tuple[int, ...]]
    repeats: bool

    def start(self, thoughts: Thoughts = Thoughts.NONE) -> Constraint:
        """Return the constraint of a new sequence; it applies to the answer after the `thoughts`."""
        answer = GrammarConstraint(self)
        if thoughts is Thoughts.NONE:
            return answer
        end_tokens = self.end_tokens if self.opening_token is None else ()
        is_open = thoughts is Thoughts.OPEN
        return AfterThinking(answer, self.tokenizer, self.think_starts, end_tokens, is_open=is_open)


class GrammarConstraint:
    """The state of one sequence in its grammar. Before each token call `mask`, after it `commit`.

    If the grammar has an `opening_token`, the matcher exists only from this token to the end of the text that the
    grammar matches; elsewhere text is free.
    """

    def __init__(self, grammar: CompiledGrammar) -> None:
        self._grammar = grammar
        self._watch = MarkerWatch(grammar.tokenizer, grammar.marker_endings)
        self._matcher = grammar.matcher.deep_copy() if grammar.opening_token is None else None
        self._may_open = True

    def mask(self, out: Bitmask) -> bool:
        """Set the bits of the tokens that may come next in `out`, [mask_words(vocab_size)].

        Returns False, with `out` unchanged, if every token may come next. Raises ConstraintError if the grammar cannot
        continue.
        """
        if self._matcher is not None:
            self._matcher.unsafe_compute_mask_ptr(out.ctypes.data, out.nbytes)
            self._check()
            return True
        return forbid_tokens(out, self._forbidden())

    def commit(self, token: int) -> None:
        """Advance by a token. Raises ConstraintError if it was not allowed."""
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
        """Return the tokens that must come next because the grammar allows no others; does not commit them."""
        return [] if self._matcher is None else self._matcher.compute_ff_tokens()

    def _forbidden(self) -> tuple[int, ...]:
        """Return the tokens that may not come next in free text.

        These are tokens that would spell out the opening marker, and the opening token itself once no further match is
        allowed.
        """
        assert self._grammar.opening_token is not None
        endings = self._watch.forbidden()
        return endings if self._may_open else (self._grammar.opening_token, *endings)

    def _check(self) -> None:
        if self._matcher is not None and self._matcher.is_error():
            raise ConstraintError(f"The grammar cannot continue: {_reason(self._matcher.get_error())}")


@dataclass(frozen=True, slots=True)
class GrammarSource:
    """How to build a grammar; sources with the same `key` build the same one."""

    key: str
    build: Callable[[], Grammar]


class GrammarCompiler:
    """Compiles grammars for one tokenizer and caches those used most recently. Safe to use from several threads.

    Each grammar is first compiled in a sandbox, so that none blocks the caller for long or crashes the process.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, end_tokens: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._end_tokens = tuple(end_tokens)
        self._ll_tokenizer = LLTokenizer(
            _Vocabulary(tokenizer, vocab_size, self._end_tokens), n_vocab=vocab_size, eos_token=list(end_tokens)
        )
        self._marker_endings = _marker_endings(CALL_START.encode(), tokenizer, vocab_size)
        self._think_starts = think_starts(tokenizer, vocab_size)
        self._cache: OrderedDict[str, CompiledGrammar] = OrderedDict()
        self._cached_characters = 0
        self._lock = threading.Lock()
        self._sandboxes: SimpleQueue[Sandbox] = SimpleQueue()
        for _ in range(COMPILED_AT_ONCE):
            self._sandboxes.put(Sandbox(sorted(tokenizer.special)))

    def no_calls(self) -> Constraint:
        """Return the constraint of a new sequence that may not open calls."""
        return NoCalls(MarkerWatch(self._tokenizer, self._marker_endings))

    def find_cached(self, source: GrammarSource) -> CompiledGrammar | None:
        """Return the cached grammar of `source`, or None."""
        with self._lock:
            if source.key in self._cache:
                self._cache.move_to_end(source.key)
            return self._cache.get(source.key)

    def get(self, source: GrammarSource) -> CompiledGrammar:
        """Return the grammar of `source`, from the cache or newly compiled. Raises what `build` and `compile` raise."""
        if (cached := self.find_cached(source)) is not None:
            return cached
        compiled = self.compile(source.build())
        with self._lock:
            if source.key not in self._cache:
                self._cached_characters += compiled.size
                self._cache[source.key] = compiled
            while len(self._cache) > CACHED_GRAMMARS or self._cached_characters > CACHED_CHARACTERS:
                _, oldest = self._cache.popitem(last=False)
                self._cached_characters -= oldest.size
        return compiled

    def compile(self, grammar: Grammar) -> CompiledGrammar:
        """Compile `grammar` for this tokenizer, bypassing the cache.

        Value rules that cannot be compiled are replaced if the grammar permits it. Raises InvalidRequestError if the
        grammar is invalid or exceeds the limits, or if the tokenizer lacks its opening token.
        """
        opening_token = None
        if grammar.opens_with is not None:
            opening_token = self._tokenizer.special.get(grammar.opens_with)
            if opening_token is None:
                message = f"This model cannot call tools: its tokenizer has no token {grammar.opens_with}."
                raise InvalidRequestError(message, "tools")
        sandbox = self._sandboxes.get()
        try:
            compilation = _Compilation(self._ll_tokenizer, sandbox, grammar.field)
            matcher = compilation.matcher(grammar.lark)
            if matcher.is_error():
                grammar = grammar.without_uncompilable(compilation.error)
                matcher = compilation.matcher(grammar.lark)
        finally:
            self._sandboxes.put(sandbox)
        if matcher.is_error():
            raise too_large(_reason(matcher.get_error()), grammar.field)
        return CompiledGrammar(
            unenforced=grammar.unenforced,
            size=grammar.size,
            tokenizer=self._tokenizer,
            matcher=matcher,
            end_tokens=self._end_tokens,
            opening_token=opening_token,
            marker_endings=self._marker_endings,
            think_starts=self._think_starts,
            repeats=grammar.repeats,
        )


class _Compilation:
    """The compilation of one grammar and, if it fails, of its value rules, within one time limit."""

    def __init__(self, tokenizer: LLTokenizer, sandbox: Sandbox, field: str) -> None:
        self._tokenizer = tokenizer
        self._sandbox = sandbox
        self._field = field
        self._deadline = time.monotonic() + 2 * SECONDS

    def matcher(self, lark: str) -> LLMatcher:
        """Compile `lark`; an invalid grammar gives a matcher in an error state.

        Raises InvalidRequestError if compiling takes too much time or memory.
        """
        reason = self._sandbox.try_compile(lark)
        if reason is None and time.monotonic() > self._deadline:
            reason = "its parts take too long to compile"
        if reason is not None:
            raise too_large(reason, self._field)
        return LLMatcher(self._tokenizer, lark, log_level=0, limits=LIMITS)

    def error(self, lark: str) -> str | None:
        """Return why `lark` is invalid, or None if it is valid. Raises what `matcher` raises."""
        matcher = self.matcher(lark)
        return _reason(matcher.get_error()) if matcher.is_error() else None


def _marker_endings(marker: bytes, tokenizer: Tokenizer, vocab_size: int) -> dict[bytes, tuple[int, ...]]:
    """Map each proper prefix of `marker` to the ordinary tokens that begin with the remaining text of the marker."""
    ends = [marker[i:] for i in range(1, len(marker))]
    special = frozenset(tokenizer.special.values())
    candidates = [t for t in range(vocab_size) if t not in special and tokenizer.token_bytes(t).startswith(tuple(ends))]
    return {
        marker[: -len(end)]: tuple(token for token in candidates if tokenizer.token_bytes(token).startswith(end))
        for end in ends
    }


class _Vocabulary(TokenizerWrapper):
    """The interface through which llguidance uses a tokenizer."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, end_tokens: tuple[int, ...]) -> None:
        self.is_tokenizer_wrapper = True
        self.bos_token_id = None
        self.eos_token_id = end_tokens[0]
        self.tokens = [tokenizer.token_bytes(token) for token in range(vocab_size)]
        self.special_token_ids = sorted(tokenizer.special.values())
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode_literally(text)


def _reason(message: str) -> str:
    """Extract the reason from an error message of llguidance.

    Positions and lines of the grammar are left out, because the client has not seen the grammar.
    """
    text = message.partition("failed to compile JSON schema: ")[2] or message
    lines = [line.strip() for line in text.splitlines()]
    lines = [_POSITION.sub("", line).strip() for line in lines if not _SOURCE_LINE.match(line)]
    error = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), None)
    return (error or next(filter(None, lines), "unknown")).rstrip(".:")
