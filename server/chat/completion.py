"""What is known of the answers to one request while they are generated: tokens, times and ends. Knows no text."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from server.chat.types import ChoiceEnd
from server.engine.stream import TokenStream
from server.errors import LfmServeError


@dataclass(slots=True)
class Times:
    """When a request was queued, and when its first and its last token so far came; in seconds of a steady clock."""

    queued: float
    first_token: float | None = None
    last_token: float | None = None

    def token(self) -> None:
        """A token has come."""
        self.last_token = time.monotonic()
        self.first_token = self.first_token or self.last_token


class Answers:
    """`n` answers to each prompt of a request, numbered prompt by prompt.

    `prompt_tokens` counts each prompt once, `completion_tokens` those of all choices so far; `ends` says how the
    choices that have ended did.
    """

    def __init__(self, prompt_tokens: int, streams: Sequence[TokenStream], n: int) -> None:
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = 0
        self.times = Times(streams[0].queued_at)
        self.ends: dict[int, ChoiceEnd] = {}
        self._streams = streams
        self._n = n

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """The tokens of each prompt."""
        return [stream.sequence.request.prompt for stream in self._streams[:: self._n]]

    @property
    def cached_tokens(self) -> int:
        """How many of `prompt_tokens` the prefix cache had, as far as the prompts are begun."""
        return sum(stream.cached_tokens for stream in self._streams[:: self._n])

    @property
    def started(self) -> float | None:
        """When the first prompt was begun, by the same clock as `times`; None before."""
        return min((stream.started_at for stream in self._streams if stream.started_at is not None), default=None)

    @property
    def answered(self) -> bool:
        """Whether anything came back: a token, or a prompt's log-probabilities where no more was asked for."""
        return self.completion_tokens > 0 or bool(self.ends)

    def end(self, choice: int, end: ChoiceEnd | None) -> None:
        """A choice has ended, with its last delta's `end`."""
        assert end is not None
        self.ends[choice] = end

    def fail(self, error: LfmServeError) -> None:
        """Stop generating; whoever reads the answers gets what has come by now, then `error`."""
        for stream in self._streams:
            stream.fail(error)

    def cancel(self) -> None:
        """Stop generating, whether anybody listened or not."""
        for stream in self._streams:
            stream.cancel()
