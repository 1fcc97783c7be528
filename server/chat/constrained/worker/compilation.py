"""Analyses one grammar in a worker: builds it, compiles it and tries its masks."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from llguidance import LLMatcher, LLTokenizer

from server.chat.constrained.grammar import Grammar
from server.chat.constrained.grammar_source import GrammarSource
from server.chat.constrained.value_rules import cannot_enforce
from server.chat.constrained.worker.limits import GRAMMAR_BYTES, TRIAL_MASK_SECONDS, parser_limits
from server.chat.constrained.worker.messages import Accepted
from server.chat.json_schema.normalize import too_large
from server.engine.sampling.constraint import Bitmask, mask_words
from server.runtime.machine.heap import trim_heap

WALKS = 3
WALK_STEPS = 24
SMALLEST = 1 << 16  # bytes; a smaller grammar counts as this size

SLOW_MASK = "finding the tokens that may come next takes too long"
NO_TOKEN = "NoExtensionBias"
"""The text in llguidance's messages that means: no token may come next."""

# Patterns of the parts of llguidance's error messages that quote the grammar or state a position in it.
_SOURCE_LINE = re.compile(r"\d+ \||\^")
_POSITION = re.compile(r"^(?:(?:at )?\d+\(\d+\):? *)+|\(at .*")


def analyse(source: GrammarSource, tokenizer: LLTokenizer, known: Bitmask) -> Accepted:
    """Return the grammar of `source` if the server can compile and use it.

    known: the result of `known_tokens`.

    Raises InvalidRequestError if the grammar is invalid or exceeds a limit.
    """
    grammar = source.build()
    before = anonymous_bytes()
    grammar, matcher = compile_grammar(grammar, tokenizer)
    try_masks(matcher, known, grammar.param)
    grown = max(SMALLEST, anonymous_bytes() - before)
    if grown > GRAMMAR_BYTES:
        raise too_large(f"it takes more than {GRAMMAR_BYTES >> 20} MB once compiled", grammar.param)
    return Accepted.of(grammar, grown)


def compile_grammar(grammar: Grammar, tokenizer: LLTokenizer) -> tuple[Grammar, LLMatcher]:
    """Compile `grammar`, and return it and its matcher.

    Value rules that cannot be compiled are replaced.
    Raises InvalidRequestError if a strict rule or the whole grammar cannot be compiled.
    """

    def compiled(lark: str) -> LLMatcher:
        return LLMatcher(tokenizer, lark, log_level=0, limits=parser_limits(grammar.arguments))

    def error(lark: str) -> str | None:
        matcher = compiled(lark)
        return reason(matcher.get_error()) if matcher.is_error() else None

    matcher = compiled(grammar.lark)
    if matcher.is_error():
        grammar = grammar.without_uncompilable(error)
        matcher = compiled(grammar.lark)
    if matcher.is_error():
        raise too_large(reason(matcher.get_error()), grammar.param)
    return grammar, matcher


def try_masks(matcher: LLMatcher, known: Bitmask, field: str) -> None:
    """Compute the first mask, and the masks along a few random answers.

    known: the result of `known_tokens`.

    Raises InvalidRequestError if a mask takes too much work or allows no token.
    """
    mask = np.zeros_like(known)
    matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)  # its time counts as compilation
    check_mask(matcher, mask & known, field, "no text satisfies it")
    random = np.random.default_rng(0)
    for _ in range(WALKS):
        walker = matcher.deep_copy()
        for _ in range(WALK_STEPS):
            seconds, forced = _step(walker, mask)
            if seconds > TRIAL_MASK_SECONDS:
                raise too_large(SLOW_MASK, field)
            check_mask(walker, mask & known, field, "some of its texts cannot be completed")
            allowed = np.flatnonzero(np.unpackbits((mask & known).view(np.uint8), bitorder="little"))
            walker.consume_tokens(forced or [int(random.choice(allowed))])
            if walker.is_stopped():
                break


def _step(matcher: LLMatcher, mask: Bitmask) -> tuple[float, list[int]]:
    """Compute the next mask, and return the CPU seconds and the forced tokens."""
    times, forced = [], list[int]()
    for one in (matcher.deep_copy(), matcher):
        start = time.thread_time()
        one.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        forced = one.compute_ff_tokens()
        times.append(time.thread_time() - start)
    return min(times), forced  # a busy machine may double one of the times


def check_mask(matcher: LLMatcher, mask: Bitmask, field: str, if_empty: str) -> None:
    """Raise InvalidRequestError if a mask is empty or could not be computed.

    mask: last mask of `matcher`, limited to tokens that have a text.
    if_empty: reason to give for an empty mask.
    """
    error = matcher.get_error()
    if not mask.any() or NO_TOKEN in error:
        raise cannot_enforce(field, if_empty)
    if error:
        raise too_large(reason(error), field)


def known_tokens(tokens: Sequence[bytes]) -> Bitmask:
    """Return a mask of the tokens that have a text. The others are only padding."""
    bits = np.zeros(mask_words(len(tokens)) * 32, np.uint8)
    bits[: len(tokens)] = [bool(token) for token in tokens]
    return np.packbits(bits, bitorder="little").view(np.int32)


def anonymous_bytes() -> int:
    """Return this process's anonymous resident memory in bytes, or 0 without /proc."""
    trim_heap()
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon")), 0)


def reason(message: str) -> str:
    """Return the reason in an llguidance error message.

    Leaves out quotations from the grammar, which the client has not seen.
    """
    text = message.partition("failed to compile JSON schema: ")[2] or message
    lines = [line.strip() for line in text.splitlines()]
    lines = [_POSITION.sub("", line).strip() for line in lines if not _SOURCE_LINE.match(line)]
    error = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), None)
    return (error or next(filter(None, lines), "unknown")).rstrip(".:")
