"""Literals of JSON and Python as argument values, converted to JSON text."""

from __future__ import annotations

import pytest

from server.chat.tool_calls.free_parser import FreeCallParser, ParsedCall, ToolSignature

START, END = "<|tool_call_start|>", "<|tool_call_end|>"


def value(literal: str) -> str | None:
    """Return the JSON text of an argument with this value, or None if the call is not valid."""
    parser = FreeCallParser([ToolSignature("add", ("a", "b"))])
    match parser.feed(f"{START}[add(a={literal})]{END}") + parser.finish():
        case [ParsedCall(arguments=arguments)]:
            return arguments.removeprefix('{"a": ').removesuffix("}")
        case pieces:
            assert pieces == [f"[add(a={literal})]"]
            return None


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
    ("03", "3"), ("-007", "-7"), ("00000", "0"), ("[01, 02]", "[1, 2]"),
    ("{1}", "[1]"), ("{1, 2,}", "[1, 2]"),
    ("{'a', ('b',)}", '["a", ["b"]]'), ("{'a': {'b', 'c'}}", '{"a": ["b", "c"]}'),
    ("{" * 100 + "1" + "}" * 100, "[" * 100 + "1" + "]" * 100),
    ("'a\nb'", r'"a\nb"'),
    ('"a\r\n\tb"', r'"a\r\n\tb"'), ('"a\n\\"b\\""', r'"a\n\"b\""'), ("['a\n', \"\n\"]", r'["a\n", "\n"]'),
    (r"'\ude00\ud83d'", '"\ufffd\ufffd"'),
]  # fmt: skip


@pytest.mark.parametrize(("literal", "text"), LITERALS)
def test_json_and_python_literals_become_json(literal: str, text: str) -> None:
    assert value(literal) == text


NO_LITERALS = [
    "x", "x.y", "f(1)", "1 + 1", "-x", "--1", "not True", "1 if x else 2", "[x for x in y]", "lambda: 1", "[1][0]",
    "...", "1j", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "inf", "nan", "1__0", "1_", "0x", "1e",
    "1.2.3", "٣",
    "{**{}}", "{(1,): 2}", "{[]: 1}", "{'a': 1, 2}", "{1, 'a': 2}", "{1 2}", "{1,,}",
    "{,}", "[,]", "[1 2]", "[1,,2]", "(,)",
    "b'x'", "rb'x'", "f'x'", "'x'.upper()", "'a' + 'b'", r"'\x4'", r"'\u12'", r"'\N{NO SUCH CHARACTER}'",
    r"'\UFFFFFFFF'", "undefined", "Trueish",
    "TRUE", "{" * 99 + "1",
    "'a' + 'b' + 'c'", "'a' if 'b' else 'c'", "'a'.join(['b', 'c'])", "'a' 'b", "'%s' % 'x'", "'a' or 'b'",
    "1 # one", "",
]  # fmt: skip


@pytest.mark.parametrize("literal", NO_LITERALS)
def test_expressions_other_than_literals_are_not_evaluated(literal: str) -> None:
    assert value(literal) is None


def test_nesting_is_limited_to_100_levels() -> None:
    assert value("[" * 100 + "]" * 100) == "[" * 100 + "]" * 100
    assert value("[" * 101 + "]" * 101) is None
    assert value("(" * 50_000 + ")" * 50_000) is None
