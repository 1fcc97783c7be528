"""One choice of a text completion: tokens to plain text, with log-probabilities and where each token's text begins."""

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
class Prompt:
    """A prompt's text and tokens; the first `implicit` tokens, such as a BOS, were put in front and have no text."""

    text: str
    tokens: tuple[int, ...]
    implicit: int = 0


@dataclass(frozen=True, slots=True)
class PlacedToken:
    """A token as it is shown, which begins after `offset` characters of the text.

    A prompt's first token has no `logprob`, and no `top`, the most likely tokens in its place with itself in front.
    """

    data: bytes
    offset: int
    logprob: float | None
    top: tuple[TokenText, ...]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """What a choice has gained; the last one of a choice has `end`. `token_ids` are those generated meanwhile."""

    text: str = ""
    tokens: tuple[PlacedToken, ...] = ()
    token_ids: tuple[int, ...] = ()
    end: ChoiceEnd | None = None

    def __bool__(self) -> bool:
        return bool(self.text or self.tokens or self.end)


class TextChoice:
    """Feed it a sequence's events in order; `ended` says that it needs no more, by the last one or a stop string.

    An answer that repeats its prompt begins with `echo`, and with its tokens if `scored`. The special tokens in
    `visible` are text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: tuple[str, ...],
        echo: Prompt | None = None,
        scored: bool = False,
        visible: frozenset[str] = frozenset(),
    ) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer, visible)
        self._stop = StopStrings(stop)
        self._echo = echo
        self._scored = scored
        self._waiting: deque[PlacedToken] = deque()
        self._length = self._sent = len(echo.text) if echo else 0  # characters, those held back included or not
        self._untold: list[int] = []  # tokens since the last delta that was something
        self.ended = False

    def feed(self, event: StreamEvent) -> Iterator[TextDelta]:
        """The delta that `event` makes certain, if any."""
        assert not isinstance(event, PromptProgress)
        if isinstance(event, TokenEvent):
            self._untold.append(event.token)
        if delta := self._delta(event):
            told, self._untold = tuple(self._untold), []
            yield replace(delta, token_ids=told)

    def _delta(self, event: TokenEvent | PromptLogprobs) -> TextDelta:
        echo, self._echo = self._echo, None
        if isinstance(event, PromptLogprobs):
            assert echo is not None
            self.ended = event.finish is not None
            tokens = tuple(self._prompt_tokens(echo, event)) if self._scored else ()
            return TextDelta(echo.text, tokens, end=ChoiceEnd.LENGTH if self.ended else None)
        certain = self._certain(event)
        self._sent += len(certain)
        end = self._reason(event.finish) if self.ended else None
        return TextDelta(echo.text + certain if echo else certain, tuple(self._released()), end=end)

    def _certain(self, event: TokenEvent) -> str:
        if event.logprobs is not None:  # a stop token's too, though it has no text
            self._waiting.append(self._placed(event.token, self._length, event.logprobs))
        text = "" if event.finish is FinishReason.STOP else self._detokenizer.feed(event.token)
        if event.finish is not None:
            text += self._detokenizer.finish()
        self._length += len(text)
        certain = self._stop.feed(text)
        self.ended = self._stop.found or event.finish is not None
        return certain + self._stop.finish() if self.ended else certain

    def _released(self) -> Iterator[PlacedToken]:
        """Tokens go out with the text they belong to; those of a stop string that was cut off never do."""
        while self._waiting and (self._waiting[0].offset < self._sent or self._sent == self._length):
            yield self._waiting.popleft()

    def _reason(self, finish: FinishReason | None) -> ChoiceEnd:
        return ChoiceEnd.LENGTH if finish is FinishReason.LENGTH and not self._stop.found else ChoiceEnd.STOP

    def _prompt_tokens(self, prompt: Prompt, logprobs: PromptLogprobs) -> Iterator[PlacedToken]:
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
