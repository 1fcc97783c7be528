"""Grammars held over tokens: which may come next, which must. Knows a tokenizer, but no tools and no schemas.

Compiling takes a millisecond to some hundred and belongs off the event loop; llguidance lets go of the GIL meanwhile.
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

from server.chat.constrained.after_thinking import AfterThoughts, ban, beginnings_of
from server.chat.constrained.grammar import Grammar
from server.chat.constrained.sandbox import LIMITS, SECONDS, Trial
from server.chat.json_schema.normalize import too_large
from server.chat.markers import CALL_START
from server.chat.tokenizer import Tokenizer
from server.chat.types import Thoughts
from server.engine.sampling.constraint import Bitmask, Constraint
from server.errors import InvalidRequestError, LfmServeError

CACHED_GRAMMARS = 256
CACHED_CHARACTERS = 16 << 20
COMPILED_AT_ONCE = 2

_LINE = re.compile(r"\d+ \||\^")
_PLACE = re.compile(r"^(?:(?:at )?\d+\(\d+\):? *)+|\(at .*")


class ConstraintError(LfmServeError):
    """A grammar cannot be followed any further: its next token would cost too much to find, or was not allowed."""


@dataclass(frozen=True, slots=True)
class CompiledGrammar:
    """A grammar for one tokenizer, ready for any number of sequences; `loosened` is what of it is not enforced.

    `size` is about how many characters it has. `spellings`: tokens that would spell out the opening one's text, by what
    of it is there already; `beginnings`: those that open thoughts.
    """

    loosened: tuple[str, ...]
    size: int
    tokenizer: Tokenizer
    matcher: LLMatcher
    end_tokens: tuple[int, ...]
    opening: int | None
    spellings: Mapping[bytes, tuple[int, ...]]
    beginnings: Mapping[bytes, tuple[int, ...]]
    repeats: bool

    def start(self, thoughts: Thoughts = Thoughts.NONE) -> Constraint:
        """The constraint of a new sequence; it holds for the answer, behind the `thoughts`."""
        answer = GrammarConstraint(self)
        if thoughts is Thoughts.NONE:
            return answer
        owed = self.end_tokens if self.opening is None else ()
        is_open = thoughts is Thoughts.OPEN
        return AfterThoughts(answer, self.tokenizer, self.beginnings, owed, is_open=is_open)


class GrammarConstraint:
    """One sequence's place in its grammar. For each token: `mask`, then `commit` what was chosen."""

    def __init__(self, grammar: CompiledGrammar) -> None:
        self._grammar = grammar
        self._tail = b""
        self._matcher = grammar.matcher.deep_copy() if grammar.opening is None else None
        self._spent = False

    def mask(self, out: Bitmask) -> bool:
        """Sets the bits of the tokens that may come next, in `out` of [mask_words(vocab_size)].

        Returns False, with `out` as it was, where all may. Raises ConstraintError.
        """
        if self._matcher is not None:
            self._matcher.unsafe_compute_mask_ptr(out.ctypes.data, out.nbytes)
            self._check()
            return True
        return ban(out, self._banned())

    def commit(self, token: int) -> None:
        """Goes on by a token. Raises ConstraintError if it was not allowed."""
        if self._matcher is not None:
            if not self._matcher.consume_token(token):
                self._check()
            if self._grammar.opening is not None and self._matcher.is_stopped():
                self._matcher = None
                self._spent = not self._grammar.repeats
        elif token == self._grammar.opening and not self._spent:
            self._matcher = self._grammar.matcher.deep_copy()
            self._tail = b""
        else:
            self._tail = (self._tail + self._grammar.tokenizer.token_bytes(token))[-len(CALL_START) :]

    def forced_tokens(self) -> list[int]:
        """The tokens that the grammar leaves no choice but to come next; they are not committed by this."""
        return [] if self._matcher is None else self._matcher.compute_ff_tokens()

    def _banned(self) -> tuple[int, ...]:
        """What may not come where text is free: the opening's text spelled out, and a block too many."""
        assert self._grammar.opening is not None
        spellings = self._grammar.spellings.get(self._tail[max(0, self._tail.rfind(b"<")) :], ())
        return (self._grammar.opening, *spellings) if self._spent else spellings

    def _check(self) -> None:
        if self._matcher is not None and self._matcher.is_error():
            raise ConstraintError(f"The grammar cannot be followed further: {_reason(self._matcher.get_error())}")


@dataclass(frozen=True, slots=True)
class WantedGrammar:
    """A grammar that may be known already: `key` stands for all that `build` makes it of."""

    key: str
    build: Callable[[], Grammar]


class GrammarCompiler:
    """Compiles grammars for one tokenizer and keeps the latest. May be used from several threads at once.

    Each is tried out elsewhere first, so that none holds the caller for long or brings the process down.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, end_tokens: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._end_tokens = tuple(end_tokens)
        self._ll_tokenizer = LLTokenizer(
            _Vocabulary(tokenizer, vocab_size, self._end_tokens), n_vocab=vocab_size, eos_token=list(end_tokens)
        )
        self._spellings = _spellings(CALL_START.encode(), tokenizer, vocab_size)
        self._beginnings = beginnings_of(tokenizer, vocab_size)
        self._cache: OrderedDict[str, CompiledGrammar] = OrderedDict()
        self._cached_characters = 0
        self._lock = threading.Lock()
        self._trials: SimpleQueue[Trial] = SimpleQueue()
        for _ in range(COMPILED_AT_ONCE):
            self._trials.put(Trial(sorted(tokenizer.special)))

    def known(self, wanted: WantedGrammar) -> CompiledGrammar | None:
        """What was compiled for the same `key` lately."""
        with self._lock:
            if wanted.key in self._cache:
                self._cache.move_to_end(wanted.key)
            return self._cache.get(wanted.key)

    def cached(self, wanted: WantedGrammar) -> CompiledGrammar:
        """The same, or what is compiled now. Raises as `build` and `compile` do."""
        if (known := self.known(wanted)) is not None:
            return known
        compiled = self.compile(wanted.build())
        with self._lock:
            if wanted.key not in self._cache:
                self._cached_characters += compiled.size
                self._cache[wanted.key] = compiled
            while len(self._cache) > CACHED_GRAMMARS or self._cached_characters > CACHED_CHARACTERS:
                _, oldest = self._cache.popitem(last=False)
                self._cached_characters -= oldest.size
        return compiled

    def compile(self, grammar: Grammar) -> CompiledGrammar:
        """`grammar` for this tokenizer. Raises InvalidRequestError for what cannot be compiled within the limits."""
        opening = None
        if grammar.opens_with is not None:
            opening = self._tokenizer.special.get(grammar.opens_with)
            if opening is None:
                raise InvalidRequestError(
                    f"This model cannot call tools: it has no token {grammar.opens_with}.", "tools"
                )
        trial = self._trials.get()
        try:
            attempt = _Attempt(self._ll_tokenizer, trial, grammar.field)
            matcher = attempt.matcher(grammar.lark)
            if matcher.is_error():
                grammar = grammar.without_refused(attempt.refusal)
                matcher = attempt.matcher(grammar.lark)
        finally:
            self._trials.put(trial)
        if matcher.is_error():
            raise too_large(_reason(matcher.get_error()), grammar.field)
        return CompiledGrammar(
            loosened=grammar.loosened,
            size=grammar.size,
            tokenizer=self._tokenizer,
            matcher=matcher,
            end_tokens=self._end_tokens,
            opening=opening,
            spellings=self._spellings,
            beginnings=self._beginnings,
            repeats=grammar.repeats,
        )


class _Attempt:
    """The compiling of one grammar and if need be of its parts, in a bounded time altogether."""

    def __init__(self, tokenizer: LLTokenizer, trial: Trial, field: str) -> None:
        self._tokenizer = tokenizer
        self._trial = trial
        self._field = field
        self._give_up = time.monotonic() + 2 * SECONDS

    def matcher(self, lark: str) -> LLMatcher:
        """The compiled grammar, or the error in it. Raises InvalidRequestError where it costs too much."""
        reason = self._trial.run(lark)
        if reason is None and time.monotonic() > self._give_up:
            reason = "its parts take too long to compile"
        if reason is not None:
            raise too_large(reason, self._field)
        return LLMatcher(self._tokenizer, lark, log_level=0, limits=LIMITS)

    def refusal(self, lark: str) -> str | None:
        """Why a part cannot be compiled, if so."""
        matcher = self.matcher(lark)
        return _reason(matcher.get_error()) if matcher.is_error() else None


def _spellings(marker: bytes, tokenizer: Tokenizer, vocab_size: int) -> dict[bytes, tuple[int, ...]]:
    """The tokens that end `marker`, itself a token, where its text is spelled out; by its beginnings."""
    ends = [marker[i:] for i in range(1, len(marker))]
    special = frozenset(tokenizer.special.values())
    able = [t for t in range(vocab_size) if t not in special and tokenizer.token_bytes(t).startswith(tuple(ends))]
    return {
        marker[: -len(end)]: tuple(token for token in able if tokenizer.token_bytes(token).startswith(end))
        for end in ends
    }


class _Vocabulary(TokenizerWrapper):
    """What llguidance wants to know of a tokenizer."""

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
    """llguidance's reason, without its place in a grammar that the client has not written."""
    text = message.partition("failed to compile JSON schema: ")[2] or message
    lines = [_PLACE.sub("", line.strip()).strip() for line in text.splitlines() if not _LINE.match(line.strip())]
    error = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), None)
    return (error or next(filter(None, lines), "unknown")).rstrip(".:")
