"""Clients' grammars are analysed in processes of their own; one that exceeds a limit ends its worker only."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from server.chat.constrained.grammar_source import GrammarSource
from server.chat.constrained.vocabulary import Vocabulary
from server.chat.constrained.worker import client as workers_module
from server.chat.constrained.worker.client import Workers
from server.chat.constrained.worker.limits import GRAMMAR_BYTES
from server.chat.types import TextForm
from server.errors import GrammarAnalysisError, InvalidRequestError, ModelNotReadyError
from server.settings import Settings
from tests.grammars import (
    COMPILER,
    END,
    STRING,
    TOKENIZER,
    VOCAB_SIZE,
    analysed,
    json_source,
    object_of,
    source_of,
    tool,
)
from tests.serving import serving


def regex(pattern: str) -> GrammarSource:
    return source_of(text_form=TextForm("regex", pattern, "guided_regex"))


def grammar(text: str) -> GrammarSource:
    return source_of(text_form=TextForm("grammar", text, "guided_grammar"))


def call(schema: Any) -> GrammarSource:
    return source_of(tool({"type": "object", "properties": {"x": schema}, "required": ["x"]}))


def chains(length: int, width: int) -> Any:
    """Return a `oneOf` of references to two chains of `allOf`."""
    definitions: dict[str, Any] = {}
    for name in "ab":
        for i in range(length):
            definitions[f"{name}{i}"] = {"allOf": [{"$ref": f"#/$defs/{name}{i + 1}"}] * width}
        definitions[f"{name}{length}"] = {"type": "object", "properties": {name: {"const": 1}}}
    return {"oneOf": [{"$ref": "#/$defs/a0"}, {"$ref": "#/$defs/b0"}], "$defs": definitions}


def requiring(branches: int, names: Callable[[int], list[str]]) -> Any:
    return {"oneOf": [{"required": names(i)} for i in range(branches)]}


REFUSED: dict[str, tuple[GrammarSource, str]] = {
    "allOf of itself": (source_of(tool({"allOf": [{"$ref": "#"}]})), "a reference leads back to itself"),
    "a reference to itself": (source_of(tool({"$ref": "#"})), "a reference leads back to itself"),
    "a cycle of references": (
        source_of(tool({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}})),
        "a reference leads back to itself",
    ),
    "an answer that refers to itself": (json_source({"$ref": "#"}), "no text satisfies it"),
    "anyOf of itself": (json_source({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}), "no text satisfies it"),
    "not itself": (json_source({"not": {"$ref": "#"}}), "no text satisfies it"),
    "wide chains": (json_source(chains(6, 150)), "may both match"),
    "longer, narrower chains": (json_source(chains(30, 20)), "may both match"),
    "chains in a tool": (source_of(tool(chains(6, 150))), "may both match"),
    "many names": (call(requiring(400, lambda i: [f"p{i}_{j}" for j in range(30)])), "may both match"),
    "many equal names": (call(requiring(400, lambda i: [f"p{j * i % 97}" for j in range(30)])), "may both match"),
    "many branches": (json_source(requiring(5000, lambda i: [f"p{i}"])), "may both match"),
    "no character": (regex(r"[^\s\S]"), "no text satisfies it"),
    "an end that does not exist": (grammar('start: "a" X\nX: /c/ & /d/'), "cannot be completed"),
    "an empty intersection": (grammar("start: A\nA: /a+/ & /b+/"), "no text satisfies it"),
    "nested repetitions": (regex("(a{1000}){1003}"), "too large to enforce"),
    "wider ones": (regex("x?(a{1000}){500}|y"), "too large to enforce"),
    "ones in a schema": (json_source({"type": "string", "pattern": "^(a{1000}){1003}$"}), "too large to enforce"),
    "a deep grammar": (
        grammar("start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(4000)) + 'r4000: "x"'),
        "nested too deeply",
    ),
    "multipleOf infinity": (call({"type": "number", "multipleOf": math.inf}), "must be a number above 0"),
    "multipleOf 0": (call({"type": "integer", "multipleOf": 0}), "must be a number above 0"),
    "multipleOf true": (call({"multipleOf": True}), "must be a number above 0"),
    "minimum true": (call({"minimum": True, "exclusiveMinimum": True}), "must be a number"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_harmful_grammar_is_an_error(name: str) -> None:
    source, message = REFUSED[name]
    with pytest.raises(InvalidRequestError, match=message) as error:
        analysed(source)
    assert error.value.param == source.field


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": math.inf},
        {"type": "array", "minItems": math.inf},
        {"type": "array", "maxItems": 10**30},
        {"type": "number", "maximum": math.inf},
        {"type": "string", "maxLength": 10**400},
    ],
)
def test_a_huge_count_or_bound_is_enforced_as_the_largest_one(schema: Any) -> None:
    assert analysed(call(schema)).size < GRAMMAR_BYTES


async def started_workers() -> tuple[Workers, int]:
    """Return workers that have analysed a grammar, and the process id of their fork server."""
    before = set(children(os.getpid()))
    workers = Workers(COMPILER.workers.vocabulary)
    await workers.analyse(json_source(STRING))
    (process,) = set(children(os.getpid())) - before
    return workers, process


async def test_cancelling_an_analysis_ends_its_worker() -> None:
    workers, process = await started_workers()
    analysis = asyncio.create_task(workers.analyse(regex("(a{1000}){1003}")))
    await until(lambda: bool(children(process)))
    analysis.cancel()
    await until(lambda: not children(process))
    assert (await workers.analyse(json_source(STRING))).lark


async def test_the_fork_server_is_started_again() -> None:
    workers, process = await started_workers()
    os.kill(process, signal.SIGKILL)
    assert (await workers.analyse(json_source(object_of("a")))).lark


@pytest.mark.parametrize("status", [-signal.SIGKILL, -signal.SIGTERM])
def test_a_worker_that_is_killed_is_no_fault_of_the_grammar(status: int) -> None:
    with pytest.raises(ModelNotReadyError, match="was killed") as error:
        workers_module._understood(b"", status, "tools")
    assert error.value.code == "overloaded"


async def test_an_analysis_that_fails_is_a_fault_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    workers, _ = await started_workers()
    with pytest.raises(GrammarAnalysisError, match="failed to analyse"):
        await workers.analyse(GrammarSource("{}"))
    assert "KeyError" in caplog.text


async def test_closing_the_workers_ends_the_fork_server() -> None:
    workers, process = await started_workers()
    workers.close()
    assert process not in children(os.getpid())


async def test_ctrl_c_spares_the_fork_server_and_its_niceness_counts() -> None:
    workers, process = await started_workers()
    assert os.getpgid(process) != os.getpgid(0)
    assert os.getsid(process) == os.getsid(0)
    workers.close()


def test_a_server_that_stops_leaves_no_fork_server() -> None:
    before = set(children(os.getpid()))
    with serving(Settings()) as server:
        server.wait_until(lambda: bool(set(children(os.getpid())) - before))
    assert not set(children(os.getpid())) - before


PROGRAM = """
import asyncio, resource, sys
from tests.grammars import analysed, json_source, source_of, tool
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
assert analysed(json_source({"type": "integer"})).lark
assert analysed(source_of(tool({}))).lark
"""


@pytest.mark.parametrize("limit", [1 << 30, 3 << 29, 1 << 33])
def test_a_limit_on_address_space_set_by_the_operator_is_kept(limit: int) -> None:
    environment = {"PATH": os.environ["PATH"]}  # no HOME
    command = f'exec "{sys.executable}" -c "$0" {limit} 2>&-'  # closed stderr
    subprocess.run(["sh", "-c", command, PROGRAM], env=environment, cwd=Path(__file__).parents[2], check=True)


def test_a_vocabulary_survives_its_message() -> None:
    vocabulary = Vocabulary.of(TOKENIZER, VOCAB_SIZE, [END])
    assert Vocabulary.from_json(vocabulary.to_json().encode()) == vocabulary


def test_workers_get_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFM_API_KEYS", "secret")
    assert "secret" not in str(workers_module._environment())


def children(process: int) -> list[int]:
    """Return the ids of the processes that `process` has started, the youngest last."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread may have ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return sorted(found)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
