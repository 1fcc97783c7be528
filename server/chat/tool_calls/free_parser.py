"""Parses tool calls that no grammar enforces, from text that arrives in pieces.

Text that is not a valid call of one of the tools is content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from server.chat.markers import CALL_END, CALL_START
from server.chat.tool_calls.bracket_matcher import BracketMatcher
from server.chat.tool_calls.call_syntax import FUNCTION_NAME, CallExpression, parse_call, parse_nested_quotes
from server.chat.tool_calls.literals import object_text
from server.chat.tool_calls.marker_splitter import MarkerFilter, MarkerSplitter
from server.chat.tool_calls.xml_calls import XmlSplitter, parse_xml_call


@dataclass(frozen=True, slots=True)
class ToolSignature:
    """A tool's name and its parameters' names, in the schema's order."""

    name: str
    properties: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """A call of one of the tools. `arguments` is the text of a JSON object."""

    name: str
    arguments: str


FreePiece = str | ParsedCall


class FreeCallParser:
    """A parser that splits an answer into content and calls, in linear time."""

    def __init__(self, tools: Sequence[ToolSignature]) -> None:
        self._tools = _Tools(tools)
        self._splitter = MarkerSplitter()
        self._filter = MarkerFilter()
        self._block: _Block | None = None
        self._xml = XmlSplitter()
        self._space: str | None = None  # the whitespace after a call in XML style, if no text has followed

    def feed(self, text: str) -> list[FreePiece]:
        """Parse the next part of the answer. Returns content and complete calls.

        Holds back the possible start of a marker.
        """
        return _joined(self._without_markers(chain.from_iterable(map(self._read, self._splitter.feed(text)))))

    def finish(self) -> list[FreePiece]:
        """End the answer and return its remaining pieces. An incomplete call is content."""
        rest = [*self._read(self._splitter.finish()), self._xml.finish(), *self._end_block(complete=False)]
        return _joined([*self._without_markers(rest), self._filter.flush()])

    def _read(self, part: str) -> list[FreePiece]:
        """Process a marker, or the text between two markers."""
        if part == CALL_START:
            return [self._xml.finish(), *self._start_block()]
        if part == CALL_END:
            return [self._xml.finish(), *self._end_block(complete=True)]
        if self._block:
            return self._block.feed(part)
        return list(self._xml_calls(part)) if self._tools else [part]

    def _xml_calls(self, part: str) -> Iterator[FreePiece]:
        """Yield XML-style calls and the text around them.

        Drops whitespace after a call unless text follows.
        """
        for text, is_element in self._xml.feed(part):
            call = self._tools.resolve(text, parse_xml_call) if is_element else None
            if call is not None:
                self._space = ""
                yield call
            elif self._space is None or text.strip():
                yield (self._space or "") + text
                self._space = None
            else:
                self._space += text

    def _start_block(self) -> list[FreePiece]:
        """Start a block, unless the start marker lies between two calls of a block."""
        if not self._tools or (self._block and not self._block.in_item):
            return []
        rest = self._end_block(complete=False)
        self._block = _Block(self._tools)
        return rest

    def _end_block(self, complete: bool) -> list[FreePiece]:
        block, self._block = self._block, None
        return block.end(complete) if block else []

    def _without_markers(self, pieces: Iterable[FreePiece]) -> Iterator[FreePiece]:
        """Yield the pieces, with markers removed from the content."""
        for piece in pieces:
            if isinstance(piece, str):
                yield self._filter.feed(piece)
            else:
                yield self._filter.flush()
                yield piece


def _joined(pieces: Iterable[FreePiece]) -> list[FreePiece]:
    """Join adjacent content and drop empty content."""
    result: list[FreePiece] = []
    for kind, group in groupby(pieces, key=type):
        run = list(group)
        result += ["".join(map(str, run))] if kind is str else run
    return [piece for piece in result if piece]


class _Tools:
    """The tools that may be called.

    "-", "." and "_" in a name are interchangeable if only one tool fits: `get-time` may call `get_time`.
    """

    _UNIFIED = str.maketrans("-.", "__")

    def __init__(self, tools: Sequence[ToolSignature]) -> None:
        self._exact = {tool.name: tool for tool in tools}
        self._similar: dict[str, list[ToolSignature]] = {}
        for tool in self._exact.values():
            self._similar.setdefault(tool.name.translate(self._UNIFIED), []).append(tool)

    def __bool__(self) -> bool:
        return bool(self._exact)

    def resolve(self, source: str, parse: Callable[[str], CallExpression] = parse_call) -> ParsedCall | None:
        """Parse `source` as a call of one of the tools, or return None if it is invalid."""
        try:
            return self._resolved(parse(source))
        except ValueError:
            return None

    def resolve_whole(self, source: str) -> list[ParsedCall]:
        """Parse a block of XML-style calls, or of calls with unescaped quotes in strings.

        Returns [] if any part of the block is not a valid call.
        """
        splitter = XmlSplitter()
        pieces = [piece for piece in (*splitter.feed(source), (splitter.finish(), False)) if piece[0].strip()]
        if all(is_element for _, is_element in pieces):
            calls = [self.resolve(text, parse_xml_call) for text, _ in pieces]
        else:
            calls = [self._resolved(call) for call in parse_nested_quotes(source) or ()]
        return [] if None in calls else [call for call in calls if call]

    def _resolved(self, call: CallExpression) -> ParsedCall | None:
        tool = self._find(call.name)
        if tool is None or len(call.positional) > len(tool.properties):
            return None
        positional = dict(zip(tool.properties, call.positional, strict=False))
        if not positional.keys().isdisjoint(call.keywords):
            return None
        return ParsedCall(tool.name, object_text({**positional, **call.keywords}))

    def _find(self, name: str) -> ToolSignature | None:
        if tool := self._exact.get(name):
            return tool
        similar = self._similar.get(name.translate(self._UNIFIED), [])
        return similar[0] if len(similar) == 1 else None


class _Block:
    """The text between two markers, divided into items.

    Items are separated by commas or line breaks, and may be enclosed in brackets. An item is a call or other text.
    """

    _PLAIN = re.compile(r"[^()\[\]{}\"',\n]+")

    def __init__(self, tools: _Tools) -> None:
        self._tools = tools
        self._returned_call = False
        self._source: list[str] = []  # the text after the last call returned
        self._pending: list[FreePiece] = []  # the complete items in `_source`
        self._brackets = BracketMatcher()
        self._in_list = False
        self._item: int | None = None  # index in `_source` at which the current item starts
        self._is_plain = False  # the item contains no bracket or quote so far
        self._is_call = False  # the item looks like a call

    @property
    def in_item(self) -> bool:
        """Whether an item has started and not ended."""
        return self._item is not None

    def feed(self, text: str) -> list[FreePiece]:
        """Parse the next part of the block and return the calls that it completes.

        After an item that is not a call, returns no further calls. `end` returns them.
        """
        calls: list[FreePiece] = []
        at = 0
        while at < len(text):
            start = at
            if self._brackets.broken:
                at = len(text)
                self._source.append(text[start:])
            elif self._brackets.open:
                at = self._brackets.read(text, at)
                self._source.append(text[start:at])
                if self._is_call and not self._brackets.open:
                    calls += self._end_item()
            elif plain := self._PLAIN.match(text, at):
                at = plain.end()
                self._read_plain(plain.group())
            else:
                at += 1
                self._read_symbol(text[start])
        return calls

    def end(self, complete: bool) -> list[FreePiece]:
        """Return the remaining items or, if the block is invalid, its remaining text.

        complete: whether the block has an end marker. Without it, the block is invalid.
        """
        source = "".join(self._source)
        is_closed = not (self._in_list or self._brackets.open or self._brackets.broken)
        if complete and is_closed:
            self._end_item()
        is_read = is_closed and all(isinstance(item, ParsedCall) for item in self._pending)
        if complete and not is_read and (calls := self._tools.resolve_whole(source.strip(", \n"))):
            return [*calls]
        has_call = self._returned_call or any(isinstance(item, ParsedCall) for item in self._pending)
        return self._pending if complete and is_closed and has_call else [source]

    def _read_plain(self, text: str) -> None:
        """Process text without brackets, quotes, commas or line breaks."""
        if self._item is None:
            stripped = text.lstrip()
            self._read_separator(text[: len(text) - len(stripped)])
            if not stripped:
                return
            text = stripped
            self._item, self._is_plain = len(self._source), True
        self._source.append(text)

    def _read_symbol(self, symbol: str) -> None:
        """Process a bracket, quote, comma or line break while no bracket is open."""
        ends_list = symbol == "]" and self._in_list
        starts_list = symbol == "[" and self._item is None and not self._in_list
        if symbol == "\n" and self._in_list:
            self._read_plain(symbol)
        elif symbol in ",\n" or ends_list or starts_list:
            self._end_item()
            self._read_separator(symbol)
            self._in_list = starts_list or (self._in_list and not ends_list)
        else:
            self._read_bracket_or_quote(symbol)

    def _read_bracket_or_quote(self, symbol: str) -> None:
        """Open a bracket or string, and decide whether the item looks like a call."""
        if self._item is None:
            self._item = len(self._source)
            self._is_call = symbol == "{"
        elif self._is_plain:
            name = "".join(self._source[self._item :]).rstrip()
            self._is_call = symbol == "(" and FUNCTION_NAME.fullmatch(name) is not None
        self._is_plain = False
        self._source.append(symbol)
        self._brackets.start(symbol)

    def _read_separator(self, text: str) -> None:
        """Keep the separator `text`, unless it directly follows a returned call."""
        if self._source or not self._returned_call:
            self._source.append(text)

    def _end_item(self) -> list[FreePiece]:
        """End the current item, and return it if all items up to here are calls."""
        if self._item is None:
            return []
        source = "".join(self._source[self._item :]).strip()
        call = self._tools.resolve(source) if self._is_call else None
        self._item, self._is_plain, self._is_call = None, False, False
        if call and not self._pending:
            self._returned_call = True
            self._source.clear()
            return [call]
        self._pending.append(call or source)
        return []
