"""A schema, grammar or expression that is too costly is a 400 and does not affect other requests."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.hostile_forms import hostile_form
from server.chat.constrained.worker.compilation import anonymous_bytes
from server.runtime.machine.heap import trim_heap
from tests.serving import Server

HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
SLOW_REGEX = "(a{1000}){1003}"
ROOT = Path(__file__).parents[2]
CACHE_BYTES = 5 << 20  # for the test of the grammars' cache
SECONDS = 5  # a generous limit for the wait of another request


def tool_of(parameters: Any, choice: str = "required") -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "t", "parameters": parameters}}], "tool_choice": choice}


def one_of(branches: int, names: int) -> Any:
    return {"oneOf": [{"required": [f"p{i}_{j}" for j in range(names)]} for i in range(branches)]}


def property_of(schema: Any) -> Any:
    return {"type": "object", "properties": {"x": schema}, "required": ["x"]}


def json_form(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}


HOSTILE: dict[str, dict[str, Any]] = {
    "allOf of itself": tool_of({"allOf": [{"$ref": "#"}]}),
    "a reference to itself": tool_of({"$ref": "#"}),
    "an answer that refers to itself": json_form({"$ref": "#"}),
    "many branches": json_form(one_of(400, 30)),
    "many names": json_form(one_of(30, 400)),
    "a slow expression": {"guided_regex": SLOW_REGEX},
    "no character": {"guided_regex": r"[^\s\S]"},
    "an infinite multiple": tool_of(property_of({"type": "number", "multipleOf": math.inf})),
}


def send(server: Server, body: dict[str, Any], **headers: str) -> httpx.Response:
    """Send a chat; JSON may contain numbers that are infinite."""
    text = json.dumps(HELLO | body).replace("Infinity", "1e400")
    headers = {"Content-Type": "application/json", **headers}
    return httpx.post(f"{server.url}/v1/chat/completions", content=text, headers=headers, timeout=60)


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_an_error_in_openais_shape(demo: Server, name: str) -> None:
    answer = send(demo, HOSTILE[name])
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"]
    assert error["code"] in ("invalid_json_schema", "schema_too_large")


@pytest.mark.parametrize("keyword", ["minLength", "minItems", "maxItems", "maximum"])
def test_infinite_counts_and_bounds_are_ignored(demo: Server, keyword: str) -> None:
    kind = {"minLength": "string", "maximum": "number"}.get(keyword, "array")
    assert send(demo, tool_of(property_of({"type": kind, keyword: math.inf}))).status_code == 200


async def test_others_are_answered_meanwhile(demo: Server) -> None:
    async with httpx.AsyncClient(base_url=demo.url, timeout=60) as client:

        async def post(body: dict[str, Any]) -> tuple[int, float]:
            start = time.monotonic()
            answer = await client.post("/v1/chat/completions", json=HELLO | body)
            return answer.status_code, time.monotonic() - start

        bombs = [asyncio.create_task(post({"guided_regex": f"{SLOW_REGEX}|{i}"})) for i in range(3)]
        await asyncio.sleep(0.2)
        for body in ({}, tool_of({"type": "object", "properties": {"one": {}}}), tool_of({}, "auto")):
            status, seconds = await post(body)
            assert status == 200
            assert seconds < SECONDS * 3  # of the same tenant, at most as many as it may have at once
        assert {status for status, _ in await asyncio.gather(*bombs)} == {400}


@pytest.mark.parametrize("pattern", [SLOW_REGEX, "(b{1000}){1003}", "(c{900}){1100}"])
def test_the_time_limit_of_a_request_holds_while_its_grammar_compiles(demo: Server, pattern: str) -> None:
    start = time.monotonic()
    answer = send(demo, {"guided_regex": f"{pattern}y"}, **{"X-Request-Timeout": "0.3"})
    assert answer.status_code == 504
    assert time.monotonic() - start < SECONDS


@pytest.mark.parametrize("pattern", ["x|(c{900}){1100}", "x|y|(de{900}){1100}", "(fg|h(h{900}){1100})i"])
def test_a_mask_that_takes_too_much_during_the_answer_fails_that_request_alone(demo: Server, pattern: str) -> None:
    answer = send(demo, {"guided_regex": pattern, "logit_bias": {"66": 100}})
    assert answer.status_code in (200, 400)
    assert send(demo, {}).status_code == 200


def test_a_client_that_leaves_takes_its_compilation_with_it(demo: Server) -> None:
    for i in range(10):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{demo.url}/v1/chat/completions", json=HELLO | {"guided_regex": f"{SLOW_REGEX}{i}"}, timeout=0.2
            )
    start = time.monotonic()
    assert send(demo, tool_of({"type": "object", "properties": {"another": {}}})).status_code == 200
    assert time.monotonic() - start < SECONDS


def test_the_header_about_unenforced_keywords_is_short_and_printable(demo: Server) -> None:
    leaf = {"type": "array", "uniqueItems": True}
    for names in (["a\nb"], ["\x7f\x1b[31m"], [f"n{i}\r\n" for i in range(100)]):
        answer = send(demo, tool_of({"type": "object", "properties": dict.fromkeys(names, leaf)}, "auto"))
        assert answer.status_code == 200
        header = answer.headers["x-lfm-unenforced"]
        assert header.isprintable()
        assert len(header) <= 1000


def settled_bytes() -> int:
    """Return the bytes of the process's memory without garbage and the heap's free pages."""
    gc.collect()
    trim_heap()
    return anonymous_bytes()


# In its own process: the heap of this one also moves with the servers of other tests.
GROWTH = """
from server.chat.constrained import compiler
from server.settings import Settings
from tests.http.test_hostile_schemas import CACHE_BYTES, send_large_grammars, settled_bytes
from tests.serving import serving

compiler.CACHE_BYTES = CACHE_BYTES
with serving(Settings(threads=2)) as server:
    send_large_grammars(server, 2, "bc")
    before = settled_bytes()
    send_large_grammars(server, 3, "defghijk")
    print(settled_bytes() - before)
"""


def test_distinct_large_grammars_stay_within_the_caches_bytes() -> None:
    """The first grammars fill the cache, and the heap grows to what one analysis takes, before it is measured."""
    result = subprocess.run([sys.executable, "-c", GROWTH], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(result.stdout.splitlines()[-1]) < CACHE_BYTES


def send_large_grammars(server: Server, first: int, letters: str) -> None:
    """Send five large grammars, some of them too large, and one of 2 MiB for each letter."""
    for n in range(first, 20, 4):
        assert send(server, {"guided_regex": f"(a{{1000}}){{{n}}}"}).status_code in (200, 400)
    for letter in letters:
        assert send(server, {"guided_regex": f"({letter}{{1000}}){{3}}"}).status_code == 200


async def test_random_hostile_forms_beside_innocent_streams(demo: Server) -> None:
    rng = random.Random(6)
    forms = [hostile_form(rng) for _ in range(24)]
    async with httpx.AsyncClient(base_url=demo.url, timeout=60) as client:
        stream = HELLO | {"max_tokens": 100, "ignore_eos": True}
        innocent = [asyncio.create_task(client.post("/v1/chat/completions", json=stream)) for _ in range(8)]
        for form in forms:
            answer = await client.post("/v1/chat/completions", json=HELLO | form)
            assert answer.status_code in (200, 400, 413)
        assert {(await one).status_code for one in innocent} == {200}
    demo.wait_until(demo.is_idle)
