"""Parses the answers of models without call markers.

An answer of these models consists only of calls in JSON, or it is text, which may contain XML-style calls.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.chat.markers import CALL_END, CALL_START
from server.chat.tool_calls.free_parser import FreeCallParser, FreePiece, ParsedCall, ToolSignature


class WholeAnswerParser:
    """A parser that splits an answer into content and calls.

    If the answer begins like JSON, the parser holds it back until it is complete.
    """

    def __init__(self, tools: Sequence[ToolSignature]) -> None:
        self._tools = tools
        self._text = FreeCallParser(tools)
        self._held: list[str] = []
        self._is_text = not tools
        self._is_json = False

    def feed(self, text: str) -> list[FreePiece]:
        """Parse the next part of the answer. Returns content and calls."""
        if self._is_text:
            return self._text.feed(text)
        self._held.append(text)
        if self._is_json or not (start := "".join(self._held).lstrip()):
            return []
        self._is_json = start[0] in "{["
        if self._is_json:
            return []
        self._is_text = True
        return self._text.feed("".join(self._held))

    def finish(self) -> list[FreePiece]:
        """End the answer and return the calls or the text that was held back."""
        if self._is_text:
            return self._text.finish()
        answer = "".join(self._held)
        block = FreeCallParser(self._tools)
        pieces = [*block.feed(CALL_START + answer + CALL_END), *block.finish()]
        calls: list[FreePiece] = [piece for piece in pieces if isinstance(piece, ParsedCall)]
        if calls and not any(isinstance(piece, str) and piece.strip() for piece in pieces):
            return calls
        return [*self._text.feed(answer), *self._text.finish()]
