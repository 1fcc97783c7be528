"""Measures how many real JSON schemas are enforced, and how exactly.

    python -m benchmarks.json_schema_bench SCHEMAS.jsonl[.xz] [--limit 300] [--offset 0] [--verbose]

Runs JSONSchemaBench (github.com/guidance-ai/jsonschemabench). A line of the file is {"schema": .., "tests": [{"valid":
.., "data": ..}]}.

Each schema becomes a strict response_format, and a strict tool's parameters if its root is an object. The grammar then
gets the test instances as tokens, with their keys in the schema's order. Valid instances that are rejected only for
unlisted properties are counted apart.
"""

from __future__ import annotations

import argparse
import itertools
import json
import lzma
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.schema_keys import OTHERS, Keys, as_list, is_valid
from server.bench.load import percentile
from server.chat.constrained.compiler import CompiledGrammar, GrammarCompiler
from server.chat.constrained.grammar import CallMode, call_grammar, text_grammar
from server.chat.constrained.worker.compilation import compile_grammar
from server.chat.constrained.worker.messages import Accepted
from server.chat.markers import CALL_END, CALL_START
from server.chat.tokenizer import Tokenizer
from server.chat.tool_calls.call_syntax import render_call
from server.chat.types import TextForm, Tool
from server.errors import InvalidRequestError
from server.loading.model_choice import BUILT_IN

COMPOSING = {"allOf", "anyOf", "oneOf", "not", "if", "$ref", "patternProperties", "dependencies", "dependentRequired"}


@dataclass
class Tally:
    """Results of one way to use the schemas."""

    name: str
    schemas: int = 0
    instances: Counter[str] = field(default_factory=Counter)
    compile_ms: list[float] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)

    def report(self) -> None:
        enforced = len(self.compile_ms)
        invalid, valid = self.instances["invalid"], self.instances["valid"]
        times = self.compile_ms or [0.0]
        print(f"{self.name}: {enforced} of {self.schemas} schemas enforced ({enforced / max(1, self.schemas):.1%})")
        print(f"  invalid accepted {self.instances['invalid accepted']} of {invalid}, ", end="")
        print(f"valid rejected {self.instances['valid rejected']} of {valid}", end=" ")
        print(f"({self.instances['valid rejected'] / max(1, valid):.2%}), ", end="")
        print(f"besides {self.instances['unlisted']} with properties that the schema does not list")
        median, p99 = statistics.median(times), percentile(times, 99)
        print(f"  compile ms: median {median:.2f}, p99 {p99:.2f}, longest {max(times):.1f}")
        for reason, count in self.refusals.most_common(12):
            print(f"  refused {count:4}  {reason}")


class Bench:
    """A benchmark that enforces schemas in answers and calls, and tallies results."""

    def __init__(self, verbose: bool) -> None:
        self._tokenizer = Tokenizer.load(BUILT_IN)
        vocab_size = json.loads((BUILT_IN / "config.json").read_text())["vocab_size"]
        self._compiler = GrammarCompiler(self._tokenizer, vocab_size, [self._tokenizer.special["<|im_end|>"]])
        self._verbose = verbose
        self.parameters = Tally("tool parameters")
        self.response_format = Tally("response_format")

    def add(self, name: str, schema: Any, tests: Sequence[dict[str, Any]]) -> None:
        """Test the schema in both ways."""
        keys = Keys(schema)
        ordered = [(test["valid"], keys.ordered(test["data"], schema)) for test in tests]
        if compiled := self._compile(self.response_format, name, schema, as_call=False):
            texts = [
                (valid, _text(data), [_text(listed)] if (listed := keys.listed(data, schema)) != data else [])
                for valid, data in ordered
            ]
            self._run(self.response_format, name, compiled, [(valid, [text], less) for valid, text, less in texts])
        if not isinstance(schema, dict) or "object" not in _types(schema):
            return
        if compiled := self._compile(self.parameters, name, schema, as_call=True):
            calls = []
            for valid, data in ordered:
                if not isinstance(data, dict):
                    continue  # not expressible as a call
                arguments = _known(data, schema, keys)
                if len(arguments) != len(data) and is_valid(arguments, schema) != valid:
                    continue
                listed = keys.listed(arguments, schema)
                less = _calls(listed, schema) if listed != arguments else []
                calls.append((valid, _calls(arguments, schema), less))
            self._run(self.parameters, name, compiled, calls)

    def _compile(self, tally: Tally, name: str, schema: Any, *, as_call: bool) -> CompiledGrammar | None:
        tally.schemas += 1
        start = time.perf_counter()
        try:
            if as_call:
                grammar = call_grammar([Tool("tool", None, schema)], CallMode.REQUIRED, parallel=False)
            else:
                grammar = text_grammar(TextForm("json", schema, "response_format.json_schema.schema"))
            grammar, _ = compile_grammar(grammar, self._compiler.ll_tokenizer)
            compiled = self._compiler.load(Accepted.of(grammar, size=0))
        except InvalidRequestError as error:
            reason = str(error)
            tally.refusals[reason.rpartition(": ")[2][:110]] += 1
            if self._verbose:
                print(f"{tally.name} {name}: {reason[:300]}")
            return None
        tally.compile_ms.append((time.perf_counter() - start) * 1e3)
        return compiled

    def _run(
        self, tally: Tally, name: str, compiled: CompiledGrammar, instances: Sequence[tuple[bool, list[str], list[str]]]
    ) -> None:
        """Feed instances to a grammar.

        instances: for each, whether it is valid, its spellings, and its spellings without unlisted properties.
        """
        for valid, texts, listed in instances:
            kind = "valid" if valid else "invalid"
            accepted = any(self._accepts(compiled, one) for one in texts)
            if valid and not accepted and any(self._accepts(compiled, one) for one in listed):
                tally.instances["unlisted"] += 1
                continue
            tally.instances[kind] += 1
            if accepted != valid:
                tally.instances[f"{kind} {'accepted' if accepted else 'rejected'}"] += 1
                if self._verbose:
                    print(f"{tally.name} {name}: {kind} {'accepted' if accepted else 'rejected'}: {texts[0][:2000]}")

    def _accepts(self, compiled: CompiledGrammar, text: str) -> bool:
        special = self._tokenizer.special
        if text.startswith(CALL_START):
            inner = text.removeprefix(CALL_START).removesuffix(CALL_END)
            tokens = [special[CALL_START], *self._tokenizer.encode_literally(inner), special[CALL_END]]
        else:
            tokens = self._tokenizer.encode_literally(text)
        matcher = compiled.matcher.deep_copy()
        return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def _types(schema: dict[str, Any]) -> Any:
    return schema.get("type", "")


def _known(data: dict[str, Any], schema: dict[str, Any], keys: Keys) -> dict[str, Any]:
    if schema.get(OTHERS, False) is not False or schema.keys() & COMPOSING:
        return data
    known = keys.known(schema, data)
    return {name: value for name, value in data.items() if name in known}


def _calls(arguments: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Return the spellings of a call.

    Example: `tool(a=1, **{"b c": 2})` and `tool(**{"a": 1, "b c": 2})`.
    """
    names = {*schema.get("properties", {}), *as_list(schema.get("required", []))}
    plain = {name: value for name, value in arguments.items() if name in names and "**" not in _rendered({name: value})}
    rest = {name: value for name, value in arguments.items() if name not in plain}
    by_name = [f"{name}={_text(value)}" for name, value in plain.items()]
    if rest:
        by_name.append(f"**{_text(rest)}")
    return [
        f"{CALL_START}[{text}]{CALL_END}" for text in (f"tool({', '.join(by_name)})", f"tool(**{_text(arguments)})")
    ]


def _rendered(arguments: dict[str, Any]) -> str:
    return render_call("tool", json.dumps(dict.fromkeys(arguments)))


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="schemas, one per line")
    parser.add_argument("--offset", type=int, default=0, help="schemas to skip (default: 0)")
    parser.add_argument("--limit", type=int, help="schemas to test (default: all)")
    parser.add_argument("--verbose", action="store_true", help="print every refusal and every wrong verdict")
    options = parser.parse_args()
    bench = Bench(options.verbose)
    with lzma.open(options.file, "rt") if options.file.suffix == ".xz" else options.file.open() as lines:
        last = None if options.limit is None else options.offset + options.limit
        for line in itertools.islice(lines, options.offset, last):
            entry = json.loads(line)
            bench.add(entry.get("name", ""), entry["schema"], entry["tests"])
    bench.parameters.report()
    bench.response_format.report()


if __name__ == "__main__":
    main()
