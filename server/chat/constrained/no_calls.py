"""Forbids calls in an answer. All other text is free."""

from __future__ import annotations

from collections.abc import Mapping

from server.chat.constrained.after_thinking import forbid_tokens
from server.chat.markers import CALL_START
from server.chat.tokenizer import Tokenizer
from server.engine.sampling.constraint import Bitmask


class MarkerWatch:
    """A detector of ordinary tokens that would complete the opening marker of calls.

    endings: the ordinary tokens that complete the marker, by the part already generated. If `<|tool_call_` has been
    generated, for example, these are the ordinary tokens whose text begins with `start|>`.
    """

    def __init__(self, tokenizer: Tokenizer, endings: Mapping[bytes, tuple[int, ...]]) -> None:
        self._tokenizer = tokenizer
        self._endings = endings
        self._tail = b""  # the end of the text, as long as the marker

    def forbidden(self) -> tuple[int, ...]:
        """Return the ordinary tokens that would complete the marker if they came next."""
        return self._endings.get(self._tail[max(0, self._tail.rfind(b"<")) :], ())

    def commit(self, token: int) -> None:
        """Advance by one token."""
        self._tail = (self._tail + self._tokenizer.token_bytes(token))[-len(CALL_START) :]


class NoCalls:
    """The constraint of an answer that must not contain tool calls.

    A model can write the opening marker of calls in two ways: as a special token, or as several ordinary tokens. This
    constraint forbids each ordinary token that would complete the marker. The service forbids the special token by
    means of a logit bias.
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
        """Return an empty list, because free text forces no tokens."""
        return []
