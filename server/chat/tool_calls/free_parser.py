"""Tool calls in a model's text, read as it is written: content and calls out of pieces of any size.

What is not certainly a call of a given tool is text. Knows no tokens, no JSON schemas and no wire format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from server.chat.markers import CALL_END, CALL_START
from server.chat.tool_calls.bracket_matcher import Nesting
from server.chat.tool_calls.call_syntax import FUNCTION_NAME, read_call
from server.chat.tool_calls.literals import object_text
from server.chat.tool_calls.markers import MarkerFilter, MarkerSplitter


@dataclass(frozen=True, slots=True)
class ToolSignature:
    """What a call needs to know of a tool: `properties` are its arguments' names, in the schema's order."""

    name: str
    properties: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """A call of a given tool; `arguments` is a JSON object as text."""

    name: str
    arguments: str


Piece = str | ParsedCall


class ToolCallParser:
    """Splits what a model writes into content and calls. Never raises; the work is linear in the text."""

    def __init__(self, tools: Sequence[ToolSignature]) -> None:
        self._tools = _Tools(tools)
        self._splitter = MarkerSplitter()
        self._filter = MarkerFilter()
        self._block: _Block | None = None

    def feed(self, text: str) -> list[Piece]:
        """What is certain by now: a call when it is closed, content at once."""
        return _joined(self._without_markers(chain.from_iterable(map(self._read, self._splitter.feed(text)))))

    def finish(self) -> list[Piece]:
        """What is left, now that the model has ended; a call that it left open is text."""
        rest = [*self._read(self._splitter.finish()), *self._end_block(complete=False)]
        return _joined([*self._without_markers(rest), self._filter.flush()])

    def _read(self, part: str) -> list[Piece]:
        if part == CALL_START:
            return self._start_block()
        if part == CALL_END:
            return self._end_block(complete=True)
        return self._block.feed(part) if self._block else [part]

    def _start_block(self) -> list[Piece]:
        """Between the calls of a block one more start says nothing; within a call it is a new beginning."""
        if not self._tools or (self._block and not self._block.within_item):
            return []
        rest = self._end_block(complete=False)
        self._block = _Block(self._tools.resolve)
        return rest

    def _end_block(self, complete: bool) -> list[Piece]:
        block, self._block = self._block, None
        return block.end(complete) if block else []

    def _without_markers(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            if isinstance(piece, str):
                yield self._filter.feed(piece)
            else:
                yield self._filter.flush()
                yield piece


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """The same with adjacent texts as one, and without empty ones."""
    result: list[Piece] = []
    for kind, group in groupby(pieces, key=type):
        run = list(group)
        result += ["".join(map(str, run))] if kind is str else run
    return [piece for piece in result if piece]


class _Tools:
    """The tools that may be called, by their names."""

    _SAME = str.maketrans("-.", "__")

    def __init__(self, tools: Sequence[ToolSignature]) -> None:
        self._exact = {tool.name: tool for tool in tools}
        self._similar: dict[str, list[ToolSignature]] = {}
        for tool in self._exact.values():
            self._similar.setdefault(tool.name.translate(self._SAME), []).append(tool)

    def __bool__(self) -> bool:
        return bool(self._exact)

    def resolve(self, source: str) -> ParsedCall | None:
        """The call that is written in `source`, if it is one of a tool."""
        try:
            call = read_call(source)
        except ValueError:
            return None
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
        similar = self._similar.get(name.translate(self._SAME), [])
        return similar[0] if len(similar) == 1 else None


class _Block:
    """What stands between two markers: items, in a list or not, separated by commas or whitespace.

    An item is a call, pythonic up to its ")" or JSON-style up to its "}", or else whatever stands before a comma, the
    list's end or (outside of lists) the line's. Calls are given when they are closed, up to the first item that is
    none; from there on the block's end decides.
    """

    _PLAIN = re.compile(r"[^()\[\]{}\"',\n]+")

    def __init__(self, resolve: Callable[[str], ParsedCall | None]) -> None:
        self._resolve = resolve
        self._given = False
        self._source: list[str] = []  # what was read since the last call that was given
        self._pending: list[Piece] = []  # the items in it
        self._nesting = Nesting()
        self._in_list = False
        self._item: int | None = None  # where in `_source` the item that is being read starts
        self._is_plain = False  # whether it has no bracket or quote yet
        self._is_call = False  # whether it looks like a call

    @property
    def within_item(self) -> bool:
        return self._item is not None

    def feed(self, text: str) -> list[Piece]:
        """The calls that are certain by now."""
        calls: list[Piece] = []
        at = 0
        while at < len(text):
            start = at
            if self._nesting.broken:
                at = len(text)
                self._source.append(text[start:])
            elif self._nesting.open:
                at = self._nesting.read(text, at)
                self._source.append(text[start:at])
                if self._is_call and not self._nesting.open:
                    calls += self._end_item()
            elif plain := self._PLAIN.match(text, at):
                at = plain.end()
                self._read_plain(plain.group())
            else:
                at += 1
                self._read_symbol(text[start])
        return calls

    def end(self, complete: bool) -> list[Piece]:
        """What has not been given. A block that is not `complete`, or not balanced, is text from there on."""
        if complete and not (self._in_list or self._nesting.open or self._nesting.broken):
            self._end_item()
            if self._given or any(isinstance(item, ParsedCall) for item in self._pending):
                return self._pending
        return ["".join(self._source)]

    def _read_plain(self, text: str) -> None:
        if self._item is None:
            stripped = text.lstrip()
            self._read_separator(text[: len(text) - len(stripped)])
            if not stripped:
                return
            text = stripped
            self._item, self._is_plain = len(self._source), True
        self._source.append(text)

    def _read_symbol(self, symbol: str) -> None:
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
        if self._item is None:
            self._item = len(self._source)
            self._is_call = symbol == "{"
        elif self._is_plain:
            name = "".join(self._source[self._item :]).rstrip()
            self._is_call = symbol == "(" and FUNCTION_NAME.fullmatch(name) is not None
        self._is_plain = False
        self._source.append(symbol)
        self._nesting.start(symbol)

    def _read_separator(self, text: str) -> None:
        """Goes with the items around it if they turn out to be text; after a call that was given it is nothing."""
        if self._source or not self._given:
            self._source.append(text)

    def _end_item(self) -> list[Piece]:
        """The call that it was, if that is certain."""
        if self._item is None:
            return []
        source = "".join(self._source[self._item :]).strip()
        call = self._resolve(source) if self._is_call else None
        self._item, self._is_plain, self._is_call = None, False, False
        if call and not self._pending:
            self._given = True
            self._source.clear()
            return [call]
        self._pending.append(call or source)
        return []
