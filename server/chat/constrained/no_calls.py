"""Forbids calls in an answer."""

from __future__ import annotations

from collections.abc import Mapping

from server.chat.constrained.after_thinking import forbid_tokens
from server.chat.markers import CALL_START
from server.chat.tokenizer import Tokenizer
from server.engine.sampling.constraint import Bitmask


class MarkerWatch:
    """A watch for ordinary tokens that would complete the opening marker of calls.

    endings: maps the beginnings of the marker to the tokens that complete it, such as b"<|tool_call_" to all tokens
        that begin with `start|>`.
    """

    def __init__(self, tokenizer: Tokenizer, endings: Mapping[bytes, tuple[int, ...]]) -> None:
        self._tokenizer = tokenizer
        self._endings = endings
        self._tail = b""  # the end of the text, as long as the marker

    def forbidden(self) -> tuple[int, ...]:
        """Return the ordinary tokens that would complete the marker now."""
        return self._endings.get(self._tail[max(0, self._tail.rfind(b"<")) :], ())

    def commit(self, token: int) -> None:
        """Advance by one token."""
        self._tail = (self._tail + self._tokenizer.token_bytes(token))[-len(CALL_START) :]


class NoCalls:
    """A constraint that forbids calls in an answer.

    It forbids ordinary tokens that would complete the opening marker of calls. ChatService forbids the marker's
    special token by a logit bias.
    """

    def __init__(self, watch: MarkerWatch) -> None:
        self._watch = watch

    def mask(self, out: Bitmask) -> bool:
        """Store in `out` which tokens may come next, as Constraint.mask does."""
        return forbid_tokens(out, self._watch.forbidden())

    def commit(self, token: int) -> None:
        """Advance by `token`, as Constraint.commit does."""
        self._watch.commit(token)

    def forced_tokens(self) -> list[int]:
        """Return no tokens: free text forces none."""
        return []
