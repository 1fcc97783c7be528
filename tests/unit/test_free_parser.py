"""Calls and content in answers without a grammar, in pieces of any size."""

from __future__ import annotations

import json
import random
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.chat.tool_calls.free_parser import FreeCallParser, FreePiece, ParsedCall, ToolSignature

START, END = "<|tool_call_start|>", "<|tool_call_end|>"
TOOLS = (
    ToolSignature("add", ("a", "b")),
    ToolSignature("get_weather", ("city", "days")),
    ToolSignature("resolve-library-id", ("libraryName",)),
    ToolSignature("fs.read", ("path",)),
    ToolSignature("2fa_check", ("code",)),
    ToolSignature("now", ()),
    ToolSignature("same-name", ()),
    ToolSignature("same.name", ()),
)
NAMES = {tool.name for tool in TOOLS}


def call(name: str, arguments: str = "{}") -> ParsedCall:
    return ParsedCall(name, arguments)


def add(a: str) -> ParsedCall:
    return call("add", f'{{"a": {a}}}')


def joined(pieces: list[FreePiece]) -> list[FreePiece]:
    """Join adjacent content."""
    result: list[FreePiece] = []
    for is_text, group in groupby(pieces, key=lambda piece: isinstance(piece, str)):
        run = list(group)
        result += ["".join(map(str, run))] if is_text else run
    return result


def parse(*pieces: str, tools: tuple[ToolSignature, ...] = TOOLS) -> list[FreePiece]:
    parser = FreeCallParser(tools)
    result = [parsed for piece in pieces for parsed in parser.feed(piece)]
    return joined(result + parser.finish())


def parse_block(block: str) -> list[FreePiece]:
    return parse(START + block + END)


CALLS = [
    ("one call", '[get_weather(city="Paris")]', [call("get_weather", '{"city": "Paris"}')]),
    ("two calls", "[add(a=1), now()]", [add("1"), call("now")]),
    ("a comma and lines", "[\n  add(\n    a = 1,\n  ),\n  now(),\n]\n", [add("1"), call("now")]),
    ("no brackets", "add(a=1)", [add("1")]),
    ("no brackets, commas", "add(a=1), add(a=2)", [add("1"), add("2")]),
    ("no brackets, lines", "add(a=1)\nadd(a=2)\r\nnow()", [add("1"), add("2"), call("now")]),
    ("two lists", "[add(a=1)]\n[now()]", [add("1"), call("now")]),
    ("space before the parenthesis", "[now ()]", [call("now")]),
    ("positional arguments", '[get_weather("Paris", 3)]', [call("get_weather", '{"city": "Paris", "days": 3}')]),
    ("positional, then keywords", "[add(1, b=2)]", [call("add", '{"a": 1, "b": 2}')]),
    ("a dict's items as arguments",
     '[add(a=1, **{"b c": {"d": None}})]', [call("add", '{"a": 1, "b c": {"d": null}}')]),
    ("keywords of Python", "[add(from=1, class=2, None=3)]", [call("add", '{"from": 1, "class": 2, "None": 3}')]),
    ("names with dashes", '[add(max-size=1, $top=2, xml:lang="x")]',
     [call("add", '{"max-size": 1, "$top": 2, "xml:lang": "x"}')]),
    ("names keep their Unicode form", "[add(ﬁle=1, e\u0301=2)]", [call("add", '{"ﬁle": 1, "e\u0301": 2}')]),
    ("a tool with dashes", '[resolve-library-id("x")]', [call("resolve-library-id", '{"libraryName": "x"}')]),
    ("a tool with a dot", '[fs.read(path="x")]', [call("fs.read", '{"path": "x"}')]),
    ("a tool that starts with a digit", "[2fa_check(code=7)]", [call("2fa_check", '{"code": 7}')]),
    ("another separator in the name", "[resolve_library_id(), fs_read(), get-weather()]",
     [call("resolve-library-id"), call("fs.read"), call("get_weather")]),
    ("brackets and quotes in strings", "[add(a=\")]}'\"), add(a='([{\"')]", [add("\")]}'\""), add('"([{\\""')]),
    ("JSON", '{"name": "add", "arguments": {"a": 1.50}}', [add("1.50")]),
    ("JSON with parameters", '{"name": "add", "parameters": {"a": 1}}', [add("1")]),
    ("JSON with arguments in a string", '{"name": "add", "arguments": "{\\"a\\": \\"\\\\n\\"}"}', [add('"\\n"')]),
    ("JSON over lines", '{\n  "name": "add",\n  "arguments": {\n    "a": 1\n  }\n}\n', [add("1")]),
    ("a JSON list", '[{"name": "now", "arguments": {}}, {"name": "add", "arguments": {"a": 1}}]',
     [call("now"), add("1")]),
    ("JSON several times", '{"name": "now", "arguments": {}}\n{"name": "now", "arguments": {}}', [call("now")] * 2),
    ("JSON of OpenAI's API",
     '[{"id": "1", "type": "function", "function": {"name": "add", "arguments": "{\\"a\\": 1}"}}]',
     [add("1")]),
    ("quotes in quotes", '[add(a="He said "hi" to me")]', [add(r'"He said \"hi\" to me"')]),
    ("an apostrophe", "[add(a='it's fine')]", [add('"it\'s fine"')]),
    ("an inch", '[add(a="a 5" pipe")]', [add(r'"a 5\" pipe"')]),
    ("quotes in quotes before a comma", '[add(a="He said "hi", and left")]', [add(r'"He said \"hi\", and left"')]),
    ("quotes in quotes after another argument", '[get_weather(city="Bern", days="the "next" ones")]',
     [call("get_weather", r'{"city": "Bern", "days": "the \"next\" ones"}')]),
    ("brackets in quotes in quotes", '[add(a="see "f(x]" there")]', [add(r'"see \"f(x]\" there"')]),
    ("quotes in quotes after a call", "[now(), add(a='don't'), now()]", [call("now"), add('"don\'t"'), call("now")]),
    ("quotes in quotes in JSON", '{"name": "add", "arguments": {"a": "say "hi""}}', [add(r'"say \"hi\""')]),
    ("XML around JSON", '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>', [add("1")]),
    ("XML around JSON twice", '<tool_call>{"name": "now", "arguments": {}}</tool_call>\n'
     '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>', [call("now"), add("1")]),
    ("XML around Python", "<tool_call>add(a=1)</tool_call>", [add("1")]),
    ("XML with JSON", '<function=add>{"a": 1}</function>', [add("1")]),
    ("XML with parameters", "<function=add>\n<parameter=a>\n1\n</parameter>\n</function>", [add("1")]),
    ("XML with text",
     '<tool_call><function=fs.read>\n<parameter=path>\na\n<b> "c"\n</parameter></function></tool_call>',
     [call("fs.read", '{"path": "a\\n<b> \\"c\\""}')]),
    ("XML without parameters", "<function=now></function>", [call("now")]),
    ("JSON in Python's spelling", "{'name': 'add', 'arguments': {'a': True}}", [add("true")]),
]  # fmt: skip


@pytest.mark.parametrize(("block", "calls"), [case[1:] for case in CALLS], ids=[case[0] for case in CALLS])
def test_calls_are_parsed_in_every_style_that_models_write(block: str, calls: list[FreePiece]) -> None:
    assert parse_block(block) == calls
    assert parse(f"Before. {START}{block}{END} After.") == ["Before. ", *calls, " After."]


NO_CALLS = [
    ("nothing", "[]"),
    ("space", " \n"),
    ("prose", "I don't know (yet)."),
    ("an unknown tool", "[launch(a=1)]"),
    ("a name similar to those of two tools", "[same_name()]"),
    ("a name in another case", "[Add(a=1)]"),
    ("a call as an argument of an unknown tool", "[launch(add(a=1))]"),
    ("an assignment", "x = add(a=1)"),
    ("a sentence before it", "Let me call add(a=1)"),
    ("a call in a string", '["x, add(a=1)"]'),
    ("a list in a list", "[[add(a=1)]]"),
    ("too many positional arguments", "[add(1, 2, 3)]"),
    ("an argument twice", "[add(a=1, a=2)]"),
    ("an argument twice, once by position", "[add(1, a=2)]"),
    ("an argument twice, once by a dict", '[add(a=1, **{"a": 2})]'),
    ("a positional argument after a keyword", "[add(a=1, 2)]"),
    ("a starred list", "[add(*[1, 2])]"),
    ("a comparison", "[add(a==1)]"),
    ("a walrus", "[add(a:=1)]"),
    ("an augmented assignment", "[add(a-=1)]"),
    ("a quoted keyword", '[add("a"=1)]'),
    ("two commas", "[add(a=1,, b=2)]"),
    ("only a comma", "[add(,)]"),
    ("no comma", "[add(a=1 b=2)]"),
    ("a call that is not closed", '[add(a=1, b="x'),
    ("a string that is not closed", '[add(a="x)]'),
    ("a bracket that is not closed", "[add(a=(1)]"),
    ("the wrong bracket", "[add(a=[1)]"),
    ("one bracket too many", "[add(a=1]), add(a=2)]"),
    ("quotes in quotes with two readings", "[add(a='echo 'x', b='y'')]"),
    ("quotes in quotes of an unknown tool", '[launch(a="say "hi" now")]'),
    ("too many quotes in quotes", "[add(a='" + "x', '" * 100 + "')]"),
    ("JSON without arguments", '{"name": "add"}'),
    ("JSON with both keys", '{"name": "add", "arguments": {}, "parameters": {}}'),
    ("JSON with more keys", '{"name": "add", "arguments": {}, "when": "now"}'),
    ("JSON with a list of arguments", '{"name": "add", "arguments": [1]}'),
    ("JSON with arguments in a string that is no object", '{"name": "add", "arguments": "[1]"}'),
    ("JSON with a name that is no string", '{"name": 1, "arguments": {}}'),
    ("JSON with another type", '{"type": "custom", "name": "add", "arguments": {}}'),
    ("JSON without its end", '{"name": "add", "arguments": {"a": 1}'),
    ("any other object", '{"city": "Paris"}'),
]


@pytest.mark.parametrize("block", [case[1] for case in NO_CALLS], ids=[case[0] for case in NO_CALLS])
def test_a_block_without_a_valid_call_is_content(block: str) -> None:
    assert parse_block(block) == [block]
    assert parse(START + block) == [block]


MIXED = [
    ("a bad call after a good one", f"{START}[add(a=1), add(a=x)]{END}", [add("1"), "add(a=x)"]),
    ("a bad call before a good one", f"{START}[launch(b=[2]), add(a=1)]{END}", ["launch(b=[2])", add("1")]),
    ("a bad call between good ones", f"{START}[now(), oh no , add(a=1)]{END}", [call("now"), "oh no", add("1")]),
    ("bad and good lines", f"{START}So I call\nadd(a=1)\nnow(1)\n{END}", ["So I call", add("1"), "now(1)"]),
    ("something after a call", f"{START}add(a=1) + now(){END}", [add("1"), "+ now()"]),
    ("half a call after a good one", f"{START}[add(a=1), add(a='x]{END} y", [add("1"), "add(a='x] y"]),
    ("half a call after a bad one", f"{START}[launch(), add(a=1), add({END}", ["[launch(), add(a=1), add("]),
    ("one bracket too many after a call", f"{START}[now())], now(){END}", [call("now"), ")], now()"]),
    ("a list that is not closed", f"{START}[add(a=1), {END}", [add("1")]),
    ("a block that never ends", f"{START}[add(a=1), now()]", [add("1"), call("now")]),
    ("a block that never ends, with a bad call", f"{START}[now(), launch(), add(a=1)]",
     [call("now"), "launch(), add(a=1)]"]),
    ("several blocks", f"a{START}[now()]{END} b {START}[launch()]{END}c\n{START}now(){END}\n",
     ["a", call("now"), " b [launch()]c\n", call("now"), "\n"]),
    ("an end marker without a start marker", f"a{END}b{START}[now()]{END}{END}c", ["ab", call("now"), "c"]),
    ("two start markers", f"{START}{START}[now(), {START}now()]{END}", [call("now")] * 2),
    ("a start marker within a call", f"{START}[add(a={START}[add(a=1)]{END}", ["[add(a=", add("1")]),
    ("an end marker within a string", f'{START}[add(a="x{END}y")]', ['[add(a="xy")]']),
    ("a start marker within a string", f'{START}[add(a="x{START}y")]{END}', ['[add(a="xy")]']),
    ("a marker in a marker", f"<|tool_call_{END}end|>x", ["x"]),
    ("a marker in a marker in a marker", f"a<|tool_<|tool_call_{END}end|>call_start|>x", ["ax"]),
    ("a marker around a call", f"<|tool_call_{START}now(){END}end|>end|>x", ["<|tool_call_", call("now"), "x"]),
    ("half a marker", f"a <|tool_call_{START}[now()]{END} b <|tool_call_en",
     ["a <|tool_call_", call("now"), " b <|tool_call_en"]),
    ("several prefixes of markers in a row", f"<<|<|tool_call_<x<|tool_{START}now(){END}<<y",
     ["<<|<|tool_call_<x<|tool_", call("now"), "<<y"]),
    ("XML outside blocks",
     '<tool_call>{"name": "now", "arguments": {}}</tool_call>\n<function=add>{"a": 1}</function>.',
     [call("now"), add("1"), "."]),
    ("XML of unknown tools", "a <function=launch>{}</function> b <tool_call>launch()</tool_call>",
     ["a <function=launch>{}</function> b <tool_call>launch()</tool_call>"]),
    ("XML that never ends", "Use <tool_call> or <function= there, <tool_c",
     ["Use <tool_call> or <function= there, <tool_c"]),
    ("a block in XML", f"<tool_call>x{START}[now()]{END}</tool_call>", ["<tool_call>x", call("now"), "</tool_call>"]),
    ("no block", "a < b <| c <|im_end|> d", ["a < b <| c <|im_end|> d"]),
    ("nothing at all", "", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "pieces"), [case[1:] for case in MIXED], ids=[case[0] for case in MIXED])
def test_calls_and_content_keep_their_order(text: str, pieces: list[FreePiece]) -> None:
    assert parse(text) == pieces
    assert parse(*text) == pieces


def test_without_tools_there_are_no_calls() -> None:
    assert parse(f"a{START}[now()]{END}b", tools=()) == ["a[now()]b"]


def test_a_call_is_returned_when_its_parenthesis_closes() -> None:
    parser = FreeCallParser(TOOLS)
    assert parser.feed(START + "[add(a=(1)") == []
    assert parser.feed(")") == [add("1")]
    assert parser.feed(", now(") == []
    assert parser.feed("), launch(), now()") == [call("now")]
    assert parser.feed("]") == []
    assert parser.feed(END) == ["launch()", call("now")]


def test_only_a_possible_start_of_a_marker_is_held_back() -> None:
    parser = FreeCallParser(TOOLS)
    assert parser.feed("Is 1 <") == ["Is 1 "]
    assert parser.feed(" 2? <|tool_") == ["< 2? "]
    assert parser.feed("call_stop") == ["<|tool_call_stop"]
    assert parser.feed("<|tool_call") == []
    assert parser.finish() == ["<|tool_call"]


@pytest.mark.parametrize("piece", [1, 4, 1000])
def test_a_long_argument_in_small_pieces_takes_linear_time(piece: int) -> None:
    argument = "x\\n\\\"'([" * 20_000
    text = f'{START}[add(a="{argument}")]{END}'
    pieces = parse(*(text[i : i + piece] for i in range(0, len(text), piece)))
    assert pieces == [add(f'"{argument}"')]


def test_many_brackets_quotes_and_markers_take_linear_time() -> None:
    for text in ("<" * 50_000, START * 2000, f"{START}(" * 2000, "<|tool_call_" * 2000 + END + "end|>" * 2000):
        assert not any(isinstance(piece, ParsedCall) for piece in parse(*text))


FRAGMENTS = st.sampled_from([
    START, END, "<|tool_call_", "end|>", "start|>", "<", "[", "]", "(", ")", "{", "}", ",", ":", "=", "\n", " ", "\\",
    "'", '"', '"""', "'''", "**", "add", "get-weather", "add(a=1)", 'add(a="', "now(), ", "launch(x=1)", "a=", '"x"',
    "r'", "-1.5e3", "0x1F", '{"name": "add", "arguments": ', '{"a": [1, None]}', "é🤖", "\\ud83d", "\ud83d",
    "\u0301", "\r", "<tool_call>", "</tool_call>", "<function=", "add>", "</function>", "<parameter=a>", "</parameter>",
    "</tool", "it's", '"x"y"', "03", "{1, 2}",
])  # fmt: skip
TEXTS = st.lists(FRAGMENTS | st.text(max_size=3), max_size=25).map("".join)


@given(TEXTS, st.randoms(use_true_random=False))
def test_the_result_does_not_depend_on_the_pieces(text: str, choose: random.Random) -> None:
    cuts = sorted(choose.choices(range(len(text) + 1), k=choose.randint(0, len(text))))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert parse(*pieces) == parse(*text) == parse(text)


@given(TEXTS)
def test_calls_name_a_tool_and_have_an_object_and_content_has_no_marker(text: str) -> None:
    pieces = parse(text)
    for piece in pieces:
        if isinstance(piece, ParsedCall):
            assert piece.name in NAMES
            assert isinstance(json.loads(piece.arguments), dict)
            piece.arguments.encode()
    content = "".join(piece for piece in pieces if isinstance(piece, str))
    assert START not in content
    assert END not in content


@given(TEXTS)
def test_text_without_markers_is_unchanged(text: str) -> None:
    text = text.replace("<", "")
    assert "".join(map(str, parse(text))) == text
