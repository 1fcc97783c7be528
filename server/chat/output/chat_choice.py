"""Turns the tokens of one choice of a chat into deltas."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from server.chat.markers import CALL_END, CALL_START, THINK_END, THINK_START
from server.chat.output.call_parser import CallParser
from server.chat.output.detokenizer import Detokenizer
from server.chat.output.reasoning import ReasoningSplitter, Split
from server.chat.output.stop_strings import StopStrings
from server.chat.thought_tracker import ThoughtTracker
from server.chat.tokenizer import Tokenizer
from server.chat.tool_calls.constrained_parser import (
    ArgumentsPiece,
    CallOpened,
    ConstrainedPiece,
)
from server.chat.tool_calls.free_parser import FreePiece, ParsedCall
from server.chat.types import ChoiceEnd, Delta, Thoughts, TokenLogprob, TokenText, ToolCallDelta
from server.engine.stream import StreamEvent
from server.engine.types import FinishReason, PromptProgress, TokenEvent, TokenLogprobs

VISIBLE = frozenset((CALL_START, CALL_END, THINK_START, THINK_END))
"""The special tokens whose text the parsers need."""


class ChatChoice:
    """One choice of a chat, fed with the events of its sequence in order.

    thoughts: the result of `ChatPrompt.thoughts`. None if the model cannot write thoughts.
    visible: special tokens to keep in the text.
    includes_thoughts: whether to pass on the thoughts. If False, they are only counted.
    max_calls: maximum number of calls; None if unlimited. A further call ends the choice.
    ended: True after the last event, a stop string, or a call beyond `max_calls`. After that, feed no further events.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: tuple[str, ...],
        call_parser: CallParser,
        thoughts: Thoughts | None,
        visible: frozenset[str] = VISIBLE,
        *,
        includes_thoughts: bool = True,
        max_calls: int | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer, visible)
        self._reasoning = None if thoughts is None else ReasoningSplitter(thoughts is Thoughts.OPEN)
        self._tracker = ThoughtTracker(thoughts is Thoughts.OPEN)
        self._includes_thoughts = includes_thoughts
        self._stop = StopStrings(stop)
        self._call_parser = call_parser
        self._logprobs = PendingLogprobs()
        self._unsent = 0  # characters of content held back or cut off by stop strings
        self._calls = 0
        self._max_calls = max_calls
        self._pending_ids: list[int] = []  # tokens since the last delta
        self.ended = False

    @property
    def reasoning_tokens(self) -> int:
        """The number of tokens in the thoughts so far, without the markers."""
        return self._tracker.tokens

    def feed(self, event: StreamEvent) -> Iterator[Delta]:
        """Yield the deltas that `event` completes."""
        if isinstance(event, PromptProgress):
            yield Delta(progress=event)
            return
        assert isinstance(event, TokenEvent)
        self._pending_ids.append(event.token)
        if self._reasoning is not None and event.finish is not FinishReason.STOP:
            self._tracker.commit(self._tokenizer.token_bytes(event.token))
        for delta in self._deltas(event):
            yield replace(delta, token_ids=tuple(self._pending_ids))
            self._pending_ids.clear()

    def _deltas(self, event: TokenEvent) -> Iterator[Delta]:
        text = ""
        if event.finish is not FinishReason.STOP:  # a stop token has no text
            text = self._detokenizer.feed(event.token)
            if event.logprobs is not None:
                self._logprobs.add(self._logprob(event.token, event.logprobs), len(text))
        last = event.finish is not None
        thoughts, answer = self._split(text + self._detokenizer.finish() if last else text, last)
        certain = self._stop.feed(answer)
        self.ended = self._stop.found or last
        if self.ended:
            certain += self._stop.finish()
        self._unsent += len(answer) - len(certain)
        held = self._reasoning.held if self._reasoning else 0
        self._logprobs.release_all_but(self._unsent + held)
        if thoughts:
            logprobs = self._logprobs.take()
            if self._includes_thoughts:
                yield Delta(reasoning=thoughts, logprobs=logprobs)
        yield from self._parse(certain)
        if self.ended:
            yield Delta(logprobs=self._logprobs.take(), end=self._reason(event.finish), stop=self._stop.match)

    def _split(self, text: str, last: bool) -> tuple[str, str]:
        """Split the next piece of text into thoughts and answer."""
        if self._reasoning is None:
            return "", text
        split = self._reasoning.feed(text)
        rest = self._reasoning.finish() if last else Split()
        return split.reasoning + rest.reasoning, split.content + rest.content

    def _parse(self, text: str) -> Iterator[Delta]:
        """Yield the deltas of the answer's next piece of text."""
        pieces: list[FreePiece | ConstrainedPiece] = [*self._call_parser.feed(text)]
        if self.ended:
            pieces += self._call_parser.finish()
        for piece in pieces:
            if self._calls == self._max_calls and isinstance(piece, (ParsedCall, CallOpened)):
                self.ended = True
                return
            match piece:
                case ParsedCall(name, arguments):
                    yield from self._open_call(name)
                    yield self._arguments(arguments)
                case CallOpened(name):
                    yield from self._open_call(name)
                case ArgumentsPiece(arguments):
                    yield self._arguments(arguments)
                case str():
                    yield Delta(content=piece, logprobs=self._logprobs.take())

    def _open_call(self, name: str) -> Iterable[Delta]:
        self._calls += 1
        call = ToolCallDelta(self._calls - 1, f"call_{secrets.token_hex(12)}", name)
        yield Delta(tool_call=call, logprobs=self._logprobs.take())

    def _arguments(self, text: str) -> Delta:
        return Delta(tool_call=ToolCallDelta(self._calls - 1, arguments=text), logprobs=self._logprobs.take())

    def _reason(self, finish: FinishReason | None) -> ChoiceEnd:
        if finish is FinishReason.LENGTH and not self._stop.found:
            return ChoiceEnd.LENGTH
        return ChoiceEnd.TOOL_CALLS if self._calls else ChoiceEnd.STOP

    def _logprob(self, token: int, logprobs: TokenLogprobs) -> TokenLogprob:
        def with_text(token: int, logprob: float) -> TokenText:
            return TokenText(self._tokenizer.token_bytes(token), logprob)

        return TokenLogprob(with_text(token, logprobs.logprob), tuple(with_text(t, p) for t, p in logprobs.top))


class PendingLogprobs:
    """The log-probabilities of tokens whose text has not been sent yet.

    The tokens of a stop string are never released.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()  # (position of the token's text, log-probability)
        self._ready: list[TokenLogprob] = []
        self._length = 0

    def add(self, logprob: TokenLogprob, length: int) -> None:
        """Add a token that has `length` characters of text."""
        self._waiting.append((self._length, logprob))
        self._length += length

    def release_all_but(self, held: int) -> None:
        """Release all tokens that begin before the last `held` characters."""
        certain = self._length - held
        while self._waiting and (self._waiting[0][0] < certain or held <= 0):
            self._ready.append(self._waiting.popleft()[1])

    def take(self) -> tuple[TokenLogprob, ...]:
        """Return the log-probabilities released since the last call."""
        ready, self._ready = tuple(self._ready), []
        return ready
