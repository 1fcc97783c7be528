"""One choice's tokens to deltas: thoughts, text, tool calls, logprobs and the end. The same for stream and body."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from server.chat.markers import CALL_END, CALL_START, THINK_END, THINK_START
from server.chat.output.detokenizer import Detokenizer
from server.chat.output.reasoning import ReasoningSplitter, Split
from server.chat.output.stop_strings import StopStrings
from server.chat.tokenizer import Tokenizer
from server.chat.tool_calls.constrained_parser import ArgumentsPiece, CallOpened, CallStream, FormReader, StreamPiece
from server.chat.tool_calls.free_parser import ParsedCall, Piece, ToolCallParser
from server.chat.types import ChoiceEnd, Delta, TokenLogprob, TokenText, ToolCallDelta
from server.engine.stream import StreamEvent
from server.engine.types import FinishReason, PromptProgress, TokenEvent, TokenLogprobs

VISIBLE = frozenset((CALL_START, CALL_END, THINK_START, THINK_END))
CallReader = ToolCallParser | CallStream | FormReader


class Choice:
    """Feed it a sequence's events in order; `ended` says that it needs no more, by the last one or a stop string.

    `reasoning` is None for models that do not think; `calls` reads calls as they were asked for: held to a grammar or
    not. The special tokens in `visible` are text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: tuple[str, ...],
        calls: CallReader,
        reasoning: ReasoningSplitter | None,
        visible: frozenset[str] = VISIBLE,
    ) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer, visible)
        self._reasoning = reasoning
        self._stop = StopStrings(stop)
        self._reader = calls
        self._logprobs = PendingLogprobs()
        self._unsent = 0  # characters of content that the stop strings hold back or cut off
        self._calls = 0
        self._untold: list[int] = []  # tokens since the last delta
        self.ended = False

    def feed(self, event: StreamEvent) -> Iterator[Delta]:
        """The deltas that `event` makes certain, perhaps none."""
        if isinstance(event, PromptProgress):
            yield Delta(progress=event)
            return
        assert isinstance(event, TokenEvent)
        self._untold.append(event.token)
        for delta in self._deltas(event):
            yield replace(delta, token_ids=tuple(self._untold))
            self._untold.clear()

    def _deltas(self, event: TokenEvent) -> Iterator[Delta]:
        text = ""
        if event.finish is not FinishReason.STOP:  # a stop token has no text
            text = self._detokenizer.feed(event.token)
            if event.logprobs is not None:
                self._logprobs.add(self._logprob(event.token, event.logprobs), len(text))
        last = event.finish is not None
        thoughts, said = self._split(text + self._detokenizer.finish() if last else text, last)
        certain = self._stop.feed(said)
        self.ended = self._stop.found or last
        if self.ended:
            certain += self._stop.finish()
        self._unsent += len(said) - len(certain)
        held = self._reasoning.held if self._reasoning else 0
        self._logprobs.release_all_but(self._unsent + held)
        if thoughts:
            yield Delta(reasoning=thoughts, logprobs=self._logprobs.take())
        yield from self._read(certain)
        if self.ended:
            yield Delta(logprobs=self._logprobs.take(), end=self._reason(event.finish))

    def _split(self, text: str, last: bool) -> tuple[str, str]:
        """Thoughts and answer in `text`."""
        if self._reasoning is None:
            return "", text
        split = self._reasoning.feed(text)
        rest = self._reasoning.finish() if last else Split()
        return split.reasoning + rest.reasoning, split.content + rest.content

    def _read(self, text: str) -> Iterator[Delta]:
        pieces: list[Piece | StreamPiece] = [*self._reader.feed(text)]
        if self.ended:
            pieces += self._reader.finish()
        for piece in pieces:
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
        def shown(token: int, logprob: float) -> TokenText:
            return TokenText(self._tokenizer.token_bytes(token), logprob)

        return TokenLogprob(shown(token, logprobs.logprob), tuple(shown(t, p) for t, p in logprobs.top))


class PendingLogprobs:
    """Log-probabilities go out with the text they belong to; those of a stop string that was cut off never do."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()  # where the token's text begins
        self._ready: list[TokenLogprob] = []
        self._length = 0

    def add(self, logprob: TokenLogprob, length: int) -> None:
        """A token that has `length` characters of text."""
        self._waiting.append((self._length, logprob))
        self._length += length

    def release_all_but(self, held: int) -> None:
        """All of the text has become certain, but for the last `held` characters."""
        certain = self._length - held
        while self._waiting and (self._waiting[0][0] < certain or held <= 0):
            self._ready.append(self._waiting.popleft()[1])

    def take(self) -> tuple[TokenLogprob, ...]:
        """Those that are ready, once."""
        ready, self._ready = tuple(self._ready), []
        return ready
