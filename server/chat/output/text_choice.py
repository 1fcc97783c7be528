"""Turns the tokens of one choice of a text completion into deltas."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from server.chat.output.detokenizer import Detokenizer
from server.chat.output.stop_strings import StopStrings
from server.chat.tokenizer import Tokenizer
from server.chat.types import ChoiceEnd, TokenText
from server.engine.stream import StreamEvent
from server.engine.types import FinishReason, PromptLogprobs, PromptProgress, TokenEvent, TokenLogprobs


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """The text and the tokens of a prompt.

    implicit: number of leading tokens, such as a BOS, that are not part of `text`.
    """

    text: str
    tokens: tuple[int, ...]
    implicit: int = 0


@dataclass(frozen=True, slots=True)
class PlacedToken:
    """A token and its position in the text.

    data: the bytes of the token.
    offset: number of characters of text before the token.
    top: this token, then the most likely other tokens.

    The first token of a prompt has neither `logprob` nor `top`.
    """

    data: bytes
    offset: int
    logprob: float | None
    top: tuple[TokenText, ...]


@dataclass(frozen=True, slots=True)
class TextChoiceDelta:
    """New text and tokens of a choice.

    tokens: tokens with log-probabilities, if requested.
    token_ids: all tokens since the previous delta.
    end: set only in the last delta of a choice.
    """

    text: str = ""
    tokens: tuple[PlacedToken, ...] = ()
    token_ids: tuple[int, ...] = ()
    end: ChoiceEnd | None = None

    def __bool__(self) -> bool:
        return bool(self.text or self.tokens or self.end)


class TextChoice:
    """One choice of a text completion, fed with the events of its sequence in order.

    echo: prompt to repeat before the answer; None to leave it out.
    scored: whether to report the tokens of `echo` with their log-probabilities.
    visible: special tokens to keep in the text.
    ended: True after the last event or a stop string. After that, feed no further events.
    reasoning_tokens: always 0, because text completions contain no thoughts.
    """

    reasoning_tokens = 0

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: tuple[str, ...],
        echo: TextPrompt | None = None,
        scored: bool = False,
        visible: frozenset[str] = frozenset(),
    ) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer, visible)
        self._stop = StopStrings(stop)
        self._echo = echo
        self._scored = scored
        self._waiting: deque[PlacedToken] = deque()
        self._length = self._sent = len(echo.text) if echo else 0  # characters so far; `_sent` excludes those held back
        self._pending_ids: list[int] = []  # tokens since the last delta that was not empty
        self.ended = False

    def feed(self, event: StreamEvent) -> Iterator[TextChoiceDelta]:
        """Yield the delta that `event` completes, if any."""
        assert not isinstance(event, PromptProgress)
        if isinstance(event, TokenEvent):
            self._pending_ids.append(event.token)
        if delta := self._delta(event):
            ids, self._pending_ids = tuple(self._pending_ids), []
            yield replace(delta, token_ids=ids)

    def _delta(self, event: TokenEvent | PromptLogprobs) -> TextChoiceDelta:
        echo, self._echo = self._echo, None
        if isinstance(event, PromptLogprobs):
            assert echo is not None
            self.ended = event.finish is not None
            tokens = tuple(self._prompt_tokens(echo, event)) if self._scored else ()
            return TextChoiceDelta(echo.text, tokens, end=ChoiceEnd.LENGTH if self.ended else None)
        certain = self._certain(event)
        self._sent += len(certain)
        end = self._reason(event.finish) if self.ended else None
        return TextChoiceDelta(echo.text + certain if echo else certain, tuple(self._released()), end=end)

    def _certain(self, event: TokenEvent) -> str:
        """Add the token of `event` and return the text that can now be sent."""
        if event.logprobs is not None:  # a stop token has log-probabilities, too, though it has no text
            self._waiting.append(self._placed(event.token, self._length, event.logprobs))
        text = "" if event.finish is FinishReason.STOP else self._detokenizer.feed(event.token)
        if event.finish is not None:
            text += self._detokenizer.finish()
        self._length += len(text)
        certain = self._stop.feed(text)
        self.ended = self._stop.found or event.finish is not None
        return certain + self._stop.finish() if self.ended else certain

    def _released(self) -> Iterator[PlacedToken]:
        """Yield the tokens whose text has been sent, without the tokens of a stop string."""
        while self._waiting and (self._waiting[0].offset < self._sent or self._sent == self._length):
            yield self._waiting.popleft()

    def _reason(self, finish: FinishReason | None) -> ChoiceEnd:
        return ChoiceEnd.LENGTH if finish is FinishReason.LENGTH and not self._stop.found else ChoiceEnd.STOP

    def _prompt_tokens(self, prompt: TextPrompt, logprobs: PromptLogprobs) -> Iterator[PlacedToken]:
        detokenizer = Detokenizer(self._tokenizer, visible=frozenset(self._tokenizer.special))
        offset = 0
        for i, (token, scores) in enumerate(zip(prompt.tokens, (None, *logprobs.tokens), strict=True)):
            yield self._placed(token, offset, scores)
            if i >= prompt.implicit:
                offset += len(detokenizer.feed(token))

    def _placed(self, token: int, offset: int, logprobs: TokenLogprobs | None) -> PlacedToken:
        data = self._tokenizer.token_bytes(token)
        if logprobs is None:
            return PlacedToken(data, offset, None, ())
        others = tuple(TokenText(self._tokenizer.token_bytes(t), p) for t, p in logprobs.top if t != token)
        return PlacedToken(data, offset, logprobs.logprob, (TokenText(data, logprobs.logprob), *others))
