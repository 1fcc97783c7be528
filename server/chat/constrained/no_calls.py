"""Keeps a model from opening calls; all other text is free."""

from __future__ import annotations

from collections.abc import Mapping

from server.chat.constrained.after_thinking import forbid_tokens
from server.chat.markers import CALL_START
from server.chat.tokenizer import Tokenizer
from server.engine.sampling.constraint import Bitmask


class MarkerWatch:
    """Follows free text and tells which tokens would complete the spelling of the opening marker.

    `endings` maps each proper prefix of the marker's text to the tokens that would complete the text without being the
    marker's token.
    """

    def __init__(self, tokenizer: Tokenizer, endings: Mapping[bytes, tuple[int, ...]]) -> None:
        self._tokenizer = tokenizer
        self._endings = endings
        self._tail = b""  # the end of the text, long enough for a marker

    def forbidden(self) -> tuple[int, ...]:
        """Return the tokens that may not come next."""
        return self._endings.get(self._tail[max(0, self._tail.rfind(b"<")) :], ())

    def commit(self, token: int) -> None:
        """Advance by a token."""
        self._tail = (self._tail + self._tokenizer.token_bytes(token))[-len(CALL_START) :]


class NoCalls:
    """The constraint of an answer without calls. The marker's own token is left to the sampling's logit bias."""

    def __init__(self, watch: MarkerWatch) -> None:
        self._watch = watch

    def mask(self, out: Bitmask) -> bool:
        """Set the bits of the tokens that may come next, as Constraint.mask does."""
        return forbid_tokens(out, self._watch.forbidden())

    def commit(self, token: int) -> None:
        """Advance by `token`, as Constraint.commit does."""
        self._watch.commit(token)

    def forced_tokens(self) -> list[int]:
        """Return no tokens: text is free."""
        return []
