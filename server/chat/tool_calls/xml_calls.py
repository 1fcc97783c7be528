"""Finds XML-style calls in text that arrives in pieces.

The supported forms are:

- `<tool_call>CALL</tool_call>`, with a CALL in Python or JSON style
- `<function=name>{JSON}</function>`
- `<function=name><parameter=key>value</parameter>...</function>`
"""

from __future__ import annotations

import json
import re

from server.chat.tool_calls.call_syntax import CallExpression, parse_call
from server.chat.tool_calls.literals import LiteralReader, string_text

_OPENING = re.compile(r"<tool_call>|<function=")
_CLOSING = {"<tool_call>": "</tool_call>", "<function=": "</function>"}
_OPENINGS = tuple(_CLOSING)
_FUNCTION = re.compile(r"<function=\s*([^>\s]+)\s*>(.*)</function>", re.DOTALL)
_PARAMETERS = re.compile(r"\s*(?><parameter=[^>]+>(?>(?!</parameter>).)*+</parameter>\s*)*+", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>]+)>(.*?)</parameter>", re.DOTALL)


class XmlSplitter:
    """A splitter that divides text into complete XML-style elements and other text."""

    def __init__(self) -> None:
        self._held = ""  # a possible beginning of a tag
        self._element: list[str] = []  # the text since an opening tag
        self._closing = ""  # the closing tag that ends the element
        self._tail = ""  # the last characters of the element, which may be the start of its closing tag

    def feed(self, text: str) -> list[tuple[str, bool]]:
        """Return pairs (piece of text, whether the piece is an element), in order."""
        pieces: list[tuple[str, bool]] = []
        text, self._held = self._held + text, ""
        while text:
            text = self._read_element(text, pieces) if self._closing else self._read_text(text, pieces)
        return pieces

    def finish(self) -> str:
        """End the answer and return the text held back, such as an unclosed element."""
        rest = self._held + "".join(self._element)
        self._held, self._element, self._closing, self._tail = "", [], "", ""
        return rest

    def _read_text(self, text: str, pieces: list[tuple[str, bool]]) -> str:
        if found := _OPENING.search(text):
            pieces.append((text[: found.start()], False))
            self._closing = _CLOSING[found.group()]
            self._element, self._tail = [found.group()], ""
            return text[found.end() :]
        start = text.rfind("<")
        if start >= 0 and any(opening.startswith(text[start:]) for opening in _OPENINGS):
            text, self._held = text[:start], text[start:]
        pieces.append((text, False))
        return ""

    def _read_element(self, text: str, pieces: list[tuple[str, bool]]) -> str:
        joined = self._tail + text
        at = joined.find(self._closing)
        if at < 0:
            self._element.append(text)
            self._tail = joined[-len(self._closing) + 1 :]
            return ""
        used = at + len(self._closing) - len(self._tail)
        self._element.append(text[:used])
        pieces.append(("".join(self._element), True))
        self._element, self._closing, self._tail = [], "", ""
        return text[used:]


def parse_xml_call(element: str) -> CallExpression:
    """Parse an XML-style element as a call.

    Raises ValueError if the element is not a call.
    """
    inner = element.removeprefix("<tool_call>").removesuffix("</tool_call>").strip()
    function = _FUNCTION.fullmatch(inner)
    if function is None:
        return parse_call(inner)
    name, body = function[1], function[2].strip()
    if body.startswith("{"):
        reader = LiteralReader(body)
        arguments = reader.members()
        reader.expect_end()
        return CallExpression(name, keywords=arguments)
    if not _PARAMETERS.fullmatch(body):
        raise ValueError("a function must contain either a JSON object or only parameters")
    return CallExpression(name, keywords={key.strip(): _value(text) for key, text in _PARAMETER.findall(body)})


def _value(text: str) -> str:
    """Return the value of a parameter as JSON text: `3` -> `3`, `Paris` -> `"Paris"`."""
    text = text.removeprefix("\n").removesuffix("\n")
    try:
        json.loads(text, parse_int=str, parse_float=str)
        reader = LiteralReader(text)
        value = reader.value()
        reader.expect_end()
    except (ValueError, RecursionError):
        return string_text(text)
    return value
