"""Tries to get calls and JSON that violate their schema, over HTTP.

    python -m benchmarks.adversary [--tools 500] [--seed 0] [--streams 16] [--verbose]

A model with random weights calls hundreds of tools in every way (see `Way`). Some tools come from tools.jsonl, which
imitates real ones. The others are random.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pydantic_core

from benchmarks.random_schemas import Schema, random_tools, tools_of_file
from server.export import export_random
from server.settings import Settings
from tests.models import DENSE
from tests.serving import serving

CALL_START, END = "10", "7"  # token ids of the built-in tokenizer
HOT = {"temperature": 1.5, "top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}
MAX_TOKENS = 2000
LONGEST_BLANK = 33  # a newline and its indent
FORMATS = jsonschema.FormatChecker(["date", "ipv4", "ipv6", "uuid", "email"])


class Way(StrEnum):
    """How a request makes the server enforce a schema.

    CUT is REQUIRED with a low token limit, to cut the answer off.
    """

    REQUIRED = "required"
    NAMED = "named"
    JSON_SCHEMA = "json_schema"
    AUTO = "auto"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Case:
    """A request that tests the schema of `tool`.

    others: further tools of the request.
    limit: maximum number of tokens in the answer.
    """

    way: Way
    tool: Schema
    others: tuple[Schema, ...]
    seed: int
    limit: int

    @property
    def tools(self) -> dict[str, Schema]:
        return {tool["name"]: tool for tool in (*self.others, self.tool)}

    @property
    def body(self) -> dict[str, Any]:
        messages = [{"role": "user", "content": "hello"}]
        body = {"messages": messages, "seed": self.seed, "max_tokens": self.limit, **HOT}
        if self.way is Way.JSON_SCHEMA:
            form = {"name": "answer", "schema": self.tool["parameters"]}
            return body | {"response_format": {"type": "json_schema", "json_schema": form}}
        body["tools"] = [{"type": "function", "function": tool} for tool in self.tools.values()]
        if self.way is Way.AUTO:
            return body | {"parallel_tool_calls": False, "logit_bias": {CALL_START: 100, END: 50}}
        if self.way is Way.NAMED:
            return body | {"tool_choice": {"type": "function", "function": {"name": self.tool["name"]}}}
        return body | {"tool_choice": "required"}

    def faults(self, choice: dict[str, Any]) -> Iterator[str]:
        """Yield the faults of an answer."""
        message, end = choice["message"], choice["finish_reason"]
        if end == "length":
            yield from self._faults_of_beginning(message)
        elif self.way is Way.JSON_SCHEMA:
            if end != "stop":
                yield f"finish_reason {end}"
            yield from _invalid(message["content"], self.tool["parameters"])
        else:
            if end != "tool_calls" or message["content"] or not message.get("tool_calls"):
                yield f"finish_reason {end}, content {message['content']!r}"
            yield from self._faults_of_calls(message.get("tool_calls") or [])

    def _faults_of_calls(self, calls: Sequence[dict[str, Any]]) -> Iterator[str]:
        for call in calls:
            name = call["function"]["name"]
            if name not in self.tools or (self.way is Way.NAMED and name != self.tool["name"]):
                yield f"calls {name!r}"
            else:
                yield from _invalid(
                    call["function"]["arguments"], self.tools[name]["parameters"] or {"maxProperties": 0}
                )

    def _faults_of_beginning(self, message: dict[str, Any]) -> Iterator[str]:
        """Yield the faults of an answer that was cut off.

        Its text or last call must be the beginning of JSON. Earlier calls must be complete.
        """
        if self.way is Way.JSON_SCHEMA:
            written = message["content"]
        elif calls := message.get("tool_calls"):
            yield from self._faults_of_calls(calls[:-1])
            written = calls[-1]["function"]["arguments"]
        else:
            written = ""
            if message["content"]:
                yield f"content {message['content']!r}"
        try:
            pydantic_core.from_json(written or "{", allow_partial="trailing-strings")
        except ValueError as error:
            yield f"not the beginning of JSON: {error}"
        if len(written) - len(written.rstrip()) > LONGEST_BLANK:
            yield "cut within a run of blanks"


def _invalid(text: str, schema: Schema) -> Iterator[str]:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        yield f"not JSON: {error}"
        return
    for error in jsonschema.Draft202012Validator(schema, format_checker=FORMATS).iter_errors(value):
        yield f"invalid: {error.message[:200]}"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


@dataclass(slots=True)
class Tally:
    """Results of one way."""

    finished: int = 0
    cut: int = 0
    tokens: int = 0
    refused: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def share_finished(self) -> float:
        return self.finished / max(1, self.finished + self.cut)


def make_cases(tools: Sequence[Schema], ways: Sequence[Way], seed: int) -> list[Case]:
    """Return a case for each tool and way.

    Tools without parameters have no JSON_SCHEMA case.
    """
    rng = random.Random(seed)
    cases = []
    for tool in tools:
        for way in ways:
            if way is Way.JSON_SCHEMA and not tool["parameters"]:
                continue  # allows any JSON, which random weights never finish
            others = (rng.choice(tools),) if way is not Way.JSON_SCHEMA and rng.random() < 0.5 else ()
            others = tuple(other for other in others if other["name"] != tool["name"])
            limit = rng.randint(1, 60) if way is Way.CUT else MAX_TOKENS
            cases.append(Case(way, tool, others, rng.randrange(2**31), limit))
    return cases


async def run(url: str, cases: Sequence[Case], streams: int) -> dict[Way, Tally]:
    """Send all `cases`, `streams` at a time."""
    tallies = {way: Tally() for way in Way}
    limit = asyncio.Semaphore(streams)

    async def send(client: httpx.AsyncClient, case: Case) -> None:
        async with limit:
            answer = await client.post("/v1/chat/completions", json=case.body)
        tally = tallies[case.way]
        about = f"{case.way} {json.dumps(case.tool, ensure_ascii=False)}"
        if answer.status_code == 400:
            tally.refused.append(f"{answer.json()['error']['message']} {about}")
            return
        body = answer.json()
        if answer.status_code != 200:
            tally.faults.append(f"{answer.status_code} {body} {about}")
            return
        (choice,) = body["choices"]
        if "x-lfm-unenforced" in answer.headers:
            tally.refused.append(f"loosened: {answer.headers['x-lfm-unenforced']} {about}")
            return
        tally.tokens += body["usage"]["completion_tokens"]
        tally.finished += choice["finish_reason"] != "length"
        tally.cut += choice["finish_reason"] == "length"
        message = json.dumps(choice["message"], ensure_ascii=False)[:2000]
        tally.faults += [f"{fault} {about} seed {case.seed}: {message}" for fault in case.faults(choice)]

    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        await asyncio.gather(*(send(client, case) for case in cases))
    return tallies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=int, default=500, help="number of tools (default: 500)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, tools and requests (default: 0)")
    parser.add_argument("--streams", type=int, default=16, help="requests at once (default: 16)")
    parser.add_argument("--verbose", action="store_true", help="print every refusal and every fault")
    options = parser.parse_args()
    real = tools_of_file()[: options.tools]
    tools = [*real, *random_tools(options.tools - len(real), options.seed)]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "random"
        export_random(DENSE | {"max_position_embeddings": 16384}, model, "fp32", seed=options.seed)
        with serving(Settings(model=str(model), max_seqs=options.streams)) as server:
            start = time.monotonic()
            tallies = asyncio.run(run(server.url, make_cases(tools, list(Way), options.seed), options.streams))
    print(f"{len(tools)} tools, {len(real)} of them from tools.jsonl; {time.monotonic() - start:.0f} s")
    for way, tally in tallies.items():
        print(f"{way:12} finished {tally.finished:4} ({tally.share_finished:.1%}), cut {tally.cut:4}, ", end="")
        print(f"wrong {len(tally.faults)}, refused {len(tally.refused)}, {tally.tokens:,} tokens")
        for reason, count in Counter(text.partition(": ")[2][:60] for text in tally.refused).most_common(5):
            print(f"    {count:3} {reason}")
        if options.verbose:
            for text in (*tally.refused, *tally.faults):
                print(f"    {text[:3000]}")


if __name__ == "__main__":
    main()
