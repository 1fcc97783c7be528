"""Fuzzes the parsers of tool calls, guided by code coverage.

    pip install atheris; python -m tools.fuzz_tool_parser [-max_total_time=300] [CORPUS_FOLDER]

The parsers must raise nothing, ignore how the text is split, and leave no marker in content. Options are libFuzzer's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

try:
    import atheris
except ImportError:
    sys.exit("skipped: atheris is not installed")

with atheris.instrument_imports(include=["server.chat"]):
    from server.chat.markers import CALL_END, CALL_START
    from server.chat.tool_calls.constrained_parser import ArgumentsPiece, CallOpened, ConstrainedCallParser
    from server.chat.tool_calls.free_parser import FreeCallParser, ParsedCall, ToolSignature

TOOLS = (ToolSignature("add", ("a", "b")), ToolSignature("get-weather.v2", ("city",)), ToolSignature("now", ()))
NAMES = {tool.name for tool in TOOLS}
WORDS = (
    CALL_START, CALL_END, "<|tool_call_", "start|>", "end|>", "<", "|>", "[", "]", "(", ")", "{", "}", "**", "=", ", ",
    ": ", '"', "'", '"""', "\\", "\\u", "\\ud800", "\n", " ", "add", "now", "get-weather.v2", "a", "b", "city", "name",
    "arguments", "parameters", "True", "False", "None", "true", "null", "1", "-", ".5", "1e999", "0x1f", "_", "f'",
    "r'", "+", "for", "é", "\u2028", "\ud800", "\x00", '{"name": "add", "arguments": {', "[add(a=1, b=[", "}}", "#",
    "<tool_call>", "</tool_call>", "<function=", "add>", "</function>", "<parameter=a>", "</parameter>", "</",
    'a="x "y" z"',
)  # fmt: skip


def text_of(data: bytes) -> str:
    """Return the text for `data`: each byte is an index in WORDS or a code point."""
    return "".join(WORDS[byte] if byte < len(WORDS) else chr(byte) for byte in data)


def cut(text: str, sizes: bytes) -> list[str]:
    """Split `text` into pieces of these sizes modulo 24, and the rest."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size % 24])
        at += size % 24
    return [*pieces, text[at:]]


def parsed(pieces: Iterable[str]) -> tuple[str, list[ParsedCall]]:
    """Return the content and calls that the free parser finds."""
    parser = FreeCallParser(TOOLS)
    found = [piece for text in pieces for piece in parser.feed(text)] + parser.finish()
    content = "".join(piece for piece in found if isinstance(piece, str))
    return content, [piece for piece in found if isinstance(piece, ParsedCall)]


def streamed(pieces: Iterable[str]) -> tuple[str, list[list[str]]]:
    """Return the content and [name, arguments] pairs found by the constrained parser."""
    stream = ConstrainedCallParser()
    content: list[str] = []
    calls: list[list[str]] = []
    for piece in [piece for text in pieces for piece in stream.feed(text)] + stream.finish():
        match piece:
            case CallOpened(name):
                calls.append([name, ""])
            case ArgumentsPiece(more):
                calls[-1][1] += more
            case str():
                content.append(piece)
    return "".join(content), calls


def check(data: bytes) -> None:
    """Check one input. Raises AssertionError, or any error of the parsers."""
    sizes, text = data[: len(data) // 4], text_of(data[len(data) // 4 :])
    content, calls = parsed([text])
    assert (content, calls) == parsed(cut(text, sizes)) == parsed(text), text
    assert CALL_START not in content, text
    assert CALL_END not in content, text
    for call in calls:
        assert call.name in NAMES, text
        assert isinstance(json.loads(call.arguments), dict), text
        call.arguments.encode()
    whole = streamed([text])
    assert whole == streamed(cut(text, sizes)) == streamed(text), text
    assert CALL_START not in whole[0], text
    assert CALL_END not in whole[0], text


def main() -> None:
    atheris.Setup([sys.argv[0], "-len_control=0", "-max_len=240", *sys.argv[1:]], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
