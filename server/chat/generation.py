"""One choice's tokens to deltas: text, tool calls, log-probabilities and the end. The same for stream and body."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator

from server.chat.detokenizer import Detokenizer
from server.chat.markers import CALL_END, CALL_START
from server.chat.stop import StopStrings
from server.chat.tokenizer import Tokenizer
from server.chat.tool_parser import ParsedCall, Piece, ToolCallParser, ToolSignature
from server.chat.types import ChoiceEnd, Delta, TokenLogprob, TokenText, ToolCallDelta
from server.engine.types import FinishReason, TokenEvent, TokenLogprobs


class Choice:
    """Feed it a sequence's events in order; `ended` says that it needs no more, by the last one or a stop string."""

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...], tools: tuple[ToolSignature, ...]) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer, visible=frozenset((CALL_START, CALL_END)))
        self._stop = StopStrings(stop)
        self._parser = ToolCallParser(tools)
        self._logprobs = PendingLogprobs()
        self._calls = 0
        self.ended = False

    def feed(self, event: TokenEvent) -> Iterator[Delta]:
        """The deltas that `event` makes certain, perhaps none."""
        text = ""
        if event.finish is not FinishReason.STOP:  # a stop token has no text
            text = self._detokenizer.feed(event.token)
            if event.logprobs is not None:
                self._logprobs.add(self._logprob(event.token, event.logprobs), len(text))
        if event.finish is not None:
            text += self._detokenizer.finish()
        certain = self._stop.feed(text)
        self.ended = self._stop.found or event.finish is not None
        if self.ended:
            certain += self._stop.finish()
        pieces = self._parser.feed(certain)
        if self.ended:
            pieces += self._parser.finish()
        self._logprobs.release(len(certain))
        yield from self._deltas(pieces)
        if self.ended:
            yield Delta(logprobs=self._logprobs.take(), end=self._reason(event.finish))

    def _deltas(self, pieces: list[Piece]) -> Iterator[Delta]:
        for piece in pieces:
            if isinstance(piece, ParsedCall):
                call_id = f"call_{secrets.token_hex(12)}"
                call = ToolCallDelta(self._calls, call_id, piece.name, piece.arguments)
                self._calls += 1
                yield Delta(tool_call=call, logprobs=self._logprobs.take())
            elif piece:
                yield Delta(content=piece, logprobs=self._logprobs.take())

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
        self._length = self._sent = 0

    def add(self, logprob: TokenLogprob, length: int) -> None:
        """A token that has `length` characters of text."""
        self._waiting.append((self._length, logprob))
        self._length += length

    def release(self, length: int) -> None:
        """`length` more characters have become certain."""
        self._sent += length
        while self._waiting and (self._waiting[0][0] < self._sent or self._sent == self._length):
            self._ready.append(self._waiting.popleft()[1])

    def take(self) -> tuple[TokenLogprob, ...]:
        ready, self._ready = tuple(self._ready), []
        return ready
