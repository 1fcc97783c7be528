"""Tool calls in a model's text: what is a call, what is text, wherever the text is cut; and writing calls."""

from __future__ import annotations

import json
import random
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.chat.tool_calls.call_syntax import render_call
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
    result: list[FreePiece] = []
    for is_text, group in groupby(pieces, key=lambda piece: isinstance(piece, str)):
        run = list(group)
        result += ["".join(map(str, run))] if is_text else run
    return result


def parse(*pieces: str, tools: tuple[ToolSignature, ...] = TOOLS) -> list[FreePiece]:
    parser = FreeCallParser(tools)
    result = [given for piece in pieces for given in parser.feed(piece)]
    return joined(result + parser.finish())


def parse_block(block: str) -> list[FreePiece]:
    return parse(START + block + END)


def value(literal: str) -> str | None:
    """The JSON text that a value becomes, None if it makes its call text."""
    match parse_block(f"[add(a={literal})]"):
        case [ParsedCall(arguments=arguments)]:
            return arguments.removeprefix('{"a": ').removesuffix("}")
        case pieces:
            assert pieces == [f"[add(a={literal})]"]
            return None


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
    ("names are never folded", "[add(ﬁle=1, e\u0301=2)]", [call("add", '{"ﬁle": 1, "e\u0301": 2}')]),
    ("a tool with dashes", '[resolve-library-id("x")]', [call("resolve-library-id", '{"libraryName": "x"}')]),
    ("a tool with a dot", '[fs.read(path="x")]', [call("fs.read", '{"path": "x"}')]),
    ("a tool that starts with a digit", "[2fa_check(code=7)]", [call("2fa_check", '{"code": 7}')]),
    ("another joint in the name", "[resolve_library_id(), fs_read(), get-weather()]",
     [call("resolve-library-id"), call("fs.read"), call("get_weather")]),
    ("brackets and quotes in strings", "[add(a=\")]}'\"), add(a='([{\"')]", [add("\")]}'\""), add('"([{\\""')]),
    ("JSON", '{"name": "add", "arguments": {"a": 1.50}}', [add("1.50")]),
    ("JSON with parameters", '{"name": "add", "parameters": {"a": 1}}', [add("1")]),
    ("JSON with arguments in a string", '{"name": "add", "arguments": "{\\"a\\": \\"\\\\n\\"}"}', [add('"\\n"')]),
    ("JSON over lines", '{\n  "name": "add",\n  "arguments": {\n    "a": 1\n  }\n}\n', [add("1")]),
    ("a JSON list", '[{"name": "now", "arguments": {}}, {"name": "add", "arguments": {"a": 1}}]',
     [call("now"), add("1")]),
    ("JSON several times", '{"name": "now", "arguments": {}}\n{"name": "now", "arguments": {}}', [call("now")] * 2),
    ("JSON of OpenAI", '[{"id": "1", "type": "function", "function": {"name": "add", "arguments": "{\\"a\\": 1}"}}]',
     [add("1")]),
    ("JSON in Python's spelling", "{'name': 'add', 'arguments': {'a': True}}", [add("true")]),
]  # fmt: skip


@pytest.mark.parametrize(("block", "calls"), [case[1:] for case in CALLS], ids=[case[0] for case in CALLS])
def test_calls_are_read_in_every_form_models_write_them(block: str, calls: list[FreePiece]) -> None:
    assert parse_block(block) == calls
    assert parse(f"Before. {START}{block}{END} After.") == ["Before. ", *calls, " After."]


NO_CALLS = [
    ("nothing", "[]"),
    ("space", " \n"),
    ("prose", "I don't know (yet)."),
    ("an unknown tool", "[launch(a=1)]"),
    ("a name like two tools", "[same_name()]"),
    ("a name in another case", "[Add(a=1)]"),
    ("a call of a call's value", "[launch(add(a=1))]"),
    ("an assignment", "x = add(a=1)"),
    ("a sentence before it", "Let me call add(a=1)"),
    ("a call in a string", '["x, add(a=1)"]'),
    ("a list in a list", "[[add(a=1)]]"),
    ("too many positional arguments", "[add(1, 2, 3)]"),
    ("an argument twice", "[add(a=1, a=2)]"),
    ("an argument twice, once by its place", "[add(1, a=2)]"),
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
    ("a bracket too many", "[add(a=1]), add(a=2)]"),
    ("JSON without arguments", '{"name": "add"}'),
    ("JSON with both keys", '{"name": "add", "arguments": {}, "parameters": {}}'),
    ("JSON with more keys", '{"name": "add", "arguments": {}, "when": "now"}'),
    ("JSON with a list of arguments", '{"name": "add", "arguments": [1]}'),
    ("JSON with arguments in a string that is no object", '{"name": "add", "arguments": "[1]"}'),
    ("JSON with a name that is no string", '{"name": 1, "arguments": {}}'),
    ("JSON with another type", '{"type": "custom", "name": "add", "arguments": {}}'),
    ("JSON that is cut", '{"name": "add", "arguments": {"a": 1}'),
    ("any other object", '{"city": "Paris"}'),
]


@pytest.mark.parametrize("block", [case[1] for case in NO_CALLS], ids=[case[0] for case in NO_CALLS])
def test_a_block_without_a_call_is_given_back_whole(block: str) -> None:
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
    ("a bracket too many after a call", f"{START}[now())], now(){END}", [call("now"), ")], now()"]),
    ("a list that is not closed", f"{START}[add(a=1), {END}", [add("1")]),
    ("a block that never ends", f"{START}[add(a=1), now()]", [add("1"), call("now")]),
    ("a block that never ends, with a bad call", f"{START}[now(), launch(), add(a=1)]",
     [call("now"), "launch(), add(a=1)]"]),
    ("several blocks", f"a{START}[now()]{END} b {START}[launch()]{END}c\n{START}now(){END}\n",
     ["a", call("now"), " b [launch()]c\n", call("now"), "\n"]),
    ("an end without a start", f"a{END}b{START}[now()]{END}{END}c", ["ab", call("now"), "c"]),
    ("a start twice", f"{START}{START}[now(), {START}now()]{END}", [call("now")] * 2),
    ("a start within a call", f"{START}[add(a={START}[add(a=1)]{END}", ["[add(a=", add("1")]),
    ("an end within a string", f'{START}[add(a="x{END}y")]', ['[add(a="xy")]']),
    ("a start within a string", f'{START}[add(a="x{START}y")]{END}', ['[add(a="xy")]']),
    ("a marker in a marker", f"<|tool_call_{END}end|>x", ["x"]),
    ("a marker in a marker in a marker", f"a<|tool_<|tool_call_{END}end|>call_start|>x", ["ax"]),
    ("a marker around a call", f"<|tool_call_{START}now(){END}end|>end|>x", ["<|tool_call_", call("now"), "x"]),
    ("half a marker", f"a <|tool_call_{START}[now()]{END} b <|tool_call_en",
     ["a <|tool_call_", call("now"), " b <|tool_call_en"]),
    ("beginnings in a row", f"<<|<|tool_call_<x<|tool_{START}now(){END}<<y",
     ["<<|<|tool_call_<x<|tool_", call("now"), "<<y"]),
    ("no block", "a < b <| c <|im_end|> d", ["a < b <| c <|im_end|> d"]),
    ("nothing at all", "", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "pieces"), [case[1:] for case in MIXED], ids=[case[0] for case in MIXED])
def test_what_is_not_a_call_is_text_in_its_place(text: str, pieces: list[FreePiece]) -> None:
    assert parse(text) == pieces
    assert parse(*text) == pieces


def test_without_tools_there_are_no_calls() -> None:
    assert parse(f"a{START}[now()]{END}b", tools=()) == ["a[now()]b"]


LITERALS = [
    ("true", "true"), ("True", "true"), ("false", "false"), ("False", "false"), ("null", "null"), ("None", "null"),
    ("0", "0"), ("-0", "-0"), ("+3", "3"), ("1_000", "1000"), ("00", "0"), ("0x1F", "31"),
    ("-0b11", "-3"), ("0o17", "15"),
    ("12345678901234567890123", "12345678901234567890123"), ("9" * 5000, "9" * 5000),
    ("1.0", "1.0"), ("1.50", "1.50"), ("0.1000000000000000055", "0.1000000000000000055"), ("1E+05", "1E+05"),
    ("1e-999", "1e-999"), (".5", "0.5"), ("1.", "1.0"), ("-1.e5", "-1.0e5"), ("01.5", "1.5"),
    ("1_0.5_0e1_0", "10.50e10"),
    ("[]", "[]"), ("[1,2,]", "[1, 2]"), ("()", "[]"), ("(1)", "1"), ("(1,)", "[1]"), ("(1, (2, 3))", "[1, [2, 3]]"),
    ("{}", "{}"), ('{"b":1,"a":[{}],}', '{"b": 1, "a": [{}]}'), ("{'a': 1, 'b': 2, 'a': 3}", '{"a": 3, "b": 2}'),
    ("{1: 2, 1.50: 3, 1e2: 4, -0: 5}", '{"1": 2, "1.5": 3, "100.0": 4, "0": 5}'),
    ("{None: 1, True: 2}", '{"null": 1, "true": 2}'),
    ("'a\"b'", r'"a\"b"'), ('"a\'b"', '"a\'b"'), ('""', '""'), ("''", '""'), ('"é 🤖"', '"é 🤖"'),
    ('"""a "b"\n""c"""', r'"a \"b\"\n\"\"c"'), ("'''it's'''", '"it\'s"'), ('""""""', '""'), ('"""a\\""""', r'"a\""'),
    (r"r'\d\n'", r'"\\d\\n"'), (r"R'''\''''", r'''"\\'"'''), ("u'x'", '"x"'),
    ("'a' 'b'\n\"c\"", '"abc"'), ("('a'\n 'b')", '"ab"'), ("{'a' 'b': 1}", '{"ab": 1}'),
    (r'"\/"', '"/"'), (r"'\/'", r'"\\/"'),
    (r"'\n\t\\\'\a\x41\101\u00e9\U0001F916\N{BULLET}'", '"\\n\\t\\\\\'\\u0007AAé🤖•"'),
    ("'a\\\nb'", '"ab"'), ("'a\\\r\nb'", '"ab"'), ('"tab\there"', r'"tab\there"'), (r'"\d"', r'"\\d"'),
    (r'"\ud83d\ude00"', '"😀"'), (r"'\ud83d\ude00'", '"😀"'), (r'"a\ud83d"', '"a\ufffd"'),
    (r"'\ude00\ud83d'", '"\ufffd\ufffd"'),
]  # fmt: skip


@pytest.mark.parametrize(("literal", "text"), LITERALS)
def test_values_are_literals_of_json_and_python(literal: str, text: str) -> None:
    assert value(literal) == text


NO_LITERALS = [
    "x", "x.y", "f(1)", "1 + 1", "-x", "--1", "not True", "1 if x else 2", "[x for x in y]", "lambda: 1", "[1][0]",
    "...", "1j", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "inf", "nan", "007", "1__0", "1_", "0x", "1e",
    "1.2.3", "٣",
    "{1}", "{1, 2}", "{**{}}", "{(1,): 2}", "{[]: 1}", "{'a'}", "{'a': 1, 2}", "{,}", "[,]", "[1 2]", "[1,,2]", "(,)",
    "b'x'", "rb'x'", "f'x'", "'x'.upper()", "'a' + 'b'", r"'\x4'", r"'\u12'", r"'\N{NO SUCH CHARACTER}'",
    r"'\UFFFFFFFF'", "'a\nb'", "undefined", "Trueish", "TRUE", "1 # one", "",
]  # fmt: skip


@pytest.mark.parametrize("literal", NO_LITERALS)
def test_what_is_not_a_literal_is_not_evaluated(literal: str) -> None:
    assert value(literal) is None


def test_nesting_has_a_limit() -> None:
    assert value("[" * 100 + "]" * 100) == "[" * 100 + "]" * 100
    assert value("[" * 101 + "]" * 101) is None
    assert value("(" * 50_000 + ")" * 50_000) is None


def test_a_call_is_given_when_its_parenthesis_closes() -> None:
    parser = FreeCallParser(TOOLS)
    assert parser.feed(START + "[add(a=(1)") == []
    assert parser.feed(")") == [add("1")]
    assert parser.feed(", now(") == []
    assert parser.feed("), launch(), now()") == [call("now")]
    assert parser.feed("]") == []
    assert parser.feed(END) == ["launch()", call("now")]


def test_content_is_passed_on_at_once_but_for_what_may_become_a_marker() -> None:
    parser = FreeCallParser(TOOLS)
    assert parser.feed("Is 1 <") == ["Is 1 "]
    assert parser.feed(" 2? <|tool_") == ["< 2? "]
    assert parser.feed("call_stop") == ["<|tool_call_stop"]
    assert parser.feed("<|tool_call") == []
    assert parser.finish() == ["<|tool_call"]


@pytest.mark.parametrize("piece", [1, 4, 1000])
def test_a_long_argument_in_small_pieces_is_read_once(piece: int) -> None:
    argument = "x\\n\\\"'([" * 20_000
    text = f'{START}[add(a="{argument}")]{END}'
    pieces = parse(*(text[i : i + piece] for i in range(0, len(text), piece)))
    assert pieces == [add(f'"{argument}"')]


def test_many_brackets_quotes_and_markers_are_read_once() -> None:
    for text in ("<" * 50_000, START * 2000, f"{START}(" * 2000, "<|tool_call_" * 2000 + END + "end|>" * 2000):
        assert not any(isinstance(piece, ParsedCall) for piece in parse(*text))


FRAGMENTS = st.sampled_from([
    START, END, "<|tool_call_", "end|>", "start|>", "<", "[", "]", "(", ")", "{", "}", ",", ":", "=", "\n", " ", "\\",
    "'", '"', '"""', "'''", "**", "add", "get-weather", "add(a=1)", 'add(a="', "now(), ", "launch(x=1)", "a=", '"x"',
    "r'", "-1.5e3", "0x1F", '{"name": "add", "arguments": ', '{"a": [1, None]}', "é🤖", "\\ud83d", "\ud83d",
    "\u0301", "\r",
])  # fmt: skip
TEXTS = st.lists(FRAGMENTS | st.text(max_size=3), max_size=25).map("".join)


@given(TEXTS, st.randoms(use_true_random=False))
def test_whatever_the_pieces_the_outcome_is_the_same(text: str, choose: random.Random) -> None:
    cuts = sorted(choose.choices(range(len(text) + 1), k=choose.randint(0, len(text))))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert parse(*pieces) == parse(*text) == parse(text)


@given(TEXTS)
def test_every_call_names_a_tool_and_has_an_object_and_no_marker_is_left(text: str) -> None:
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
def test_text_without_markers_is_untouched(text: str) -> None:
    text = text.replace("<", "")
    assert "".join(map(str, parse(text))) == text


STRINGS = st.text().filter(lambda text: "<|tool_call_" not in text)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | STRINGS
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(STRINGS, v, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_-]{0,8}[a-z]", fullmatch=True) | STRINGS, VALUES, max_size=5)
TOOL_NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)


@given(TOOL_NAMES, OBJECTS)
def test_python_literals_come_back_as_json(name: str, arguments: dict[str, Any]) -> None:
    text = f"{START}[{name}(**{arguments!r})]{END}"
    (read,) = parse(text, tools=(ToolSignature(name, ()),))
    assert isinstance(read, ParsedCall)
    assert (read.name, json.loads(read.arguments)) == (name, arguments)


@given(TOOL_NAMES, OBJECTS, st.booleans(), st.sampled_from([None, 2]))
def test_a_rendered_call_is_read_as_it_was(
    name: str, arguments: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    rendered = render_call(name, json.dumps(arguments, ensure_ascii=ascii_only, indent=indent))
    (read,) = parse(f"{START}[{rendered}]{END}", tools=(ToolSignature(name, ()),))
    assert isinstance(read, ParsedCall)
    assert (read.name, json.loads(read.arguments)) == (name, arguments)


RENDERED = [
    ("{}", "f()"),
    ('{"city": "Zürich", "n": 1}', 'f(city="Zürich", n=1)'),
    ('{"a": true, "b": false, "c": null}', "f(a=True, b=False, c=None)"),
    ('{"a": [true, null], "b": {"c": false}}', 'f(a=[true, null], b={"c": false})'),
    ('{"a": 1.50, "b": 1E5, "c": 12345678901234567890}', "f(a=1.50, b=1E5, c=12345678901234567890)"),
    (f'{{"a": {"9" * 5000}}}', f"f(a={'9' * 5000})"),
    (r'{"a": "\u00e9\ud83d\ude00\ud800\n\""}', 'f(a="é😀\ufffd\\n\\"")'),
    ('{"odd name": true, "from": 1, "max-size": 2}', 'f(from=1, max-size=2, **{"odd name": true})'),
    ('{"a[0]": 1, "": 2, "x=y": 3, "a,b": 4, "f()": 5}', 'f(**{"a[0]": 1, "": 2, "x=y": 3, "a,b": 4, "f()": 5})'),
    ('{"a": 1, "a": 2}', "f(a=2)"),
]


@pytest.mark.parametrize(("arguments", "text"), RENDERED)
def test_a_call_is_rendered_as_models_write_it(arguments: str, text: str) -> None:
    assert render_call("f", arguments) == text


NO_OBJECTS = ["", "x", "[1]", '"x"', "null", "{", "{}{}", "{'a': 1}", '{"a": True}', '{"a": (1, 2)}', '{"a": 1,}',
              '{1: 2}',
              '{"a": NaN}', '{"a": Infinity}', '{"a": -Infinity}', '{"a": 1e999}', '{"a": 0x1F}', '{"a": "b" "c"}',
              '{"a": ' + "[" * 100_000]  # fmt: skip


@pytest.mark.parametrize("arguments", NO_OBJECTS)
def test_only_a_json_object_is_rendered(arguments: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        render_call("f", arguments)
