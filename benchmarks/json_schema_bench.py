"""How much of real JSON schemas is enforced, and how exactly: JSONSchemaBench through the server's own grammars.

    python -m benchmarks.json_schema_bench SCHEMAS.jsonl[.xz] [--limit 300] [--offset 0] [--verbose]

A line of the file (see github.com/guidance-ai/jsonschemabench): {"schema": .., "tests": [{"valid": .., "data": ..}]}.
Each schema is compiled as a response_format and, if its root is an object, as a tool's parameters, all enforced; then
its instances are fed as tokens of the built-in tokenizer. Instances are put in the schema's order first; a call's leave
out properties that the schema does not know. Valid instances that are rejected only for properties that their schema
does not list are counted apart. Needs jsonschema: an instance whose validity this changes is left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import lzma
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema

from server.chat.constrained.analysis import compile_grammar
from server.chat.constrained.compiler import CompiledGrammar, GrammarCompiler
from server.chat.constrained.grammar import CallMode, call_grammar, text_grammar
from server.chat.constrained.messages import Accepted
from server.chat.markers import CALL_END, CALL_START
from server.chat.tokenizer import Tokenizer
from server.chat.tool_calls.call_syntax import render_call
from server.chat.types import TextForm, Tool
from server.errors import InvalidRequestError

DEMO = Path(__file__).parent.parent / "server" / "demo"
MAX_DEPTH = 30
ITEMS = ("items", "prefixItems", "additionalItems")
OTHERS = "additionalProperties"
COMPOSING = {"allOf", "anyOf", "oneOf", "not", "if", "$ref", "patternProperties", "dependencies", "dependentRequired"}


class Keys:
    """Which properties a schema knows of, in its order, and what it says of each."""

    def __init__(self, document: Any) -> None:
        self._document = document

    def ordered(self, instance: Any, schema: Any, depth: int = 0) -> Any:
        """`instance` with the keys of its objects in the order of `schema`, those that it does not name last."""
        if depth > MAX_DEPTH:
            return instance
        parts = list(self._parts(schema, instance))
        if isinstance(instance, list):
            items = [value for one in parts for keyword in ITEMS for value in _as_list(one.get(keyword))]
            return [self.ordered(value, {"allOf": items}, depth + 1) for value in instance]
        if not isinstance(instance, dict):
            return instance
        known = self.known(schema, instance)
        others = [value for one in parts for value in (*one.get("patternProperties", {}).values(), one.get(OTHERS))]
        names = [name for name in known if name in instance] + [name for name in instance if name not in known]
        return {name: self.ordered(instance[name], known.get(name, {"allOf": others}), depth + 1) for name in names}

    def listed(self, instance: Any, schema: Any, depth: int = 0) -> Any:
        """`instance` without properties that `schema` does not list, in objects that are closed for that."""
        if depth > MAX_DEPTH:
            return instance
        parts = list(self._parts(schema, instance))
        if isinstance(instance, list):
            items = [value for one in parts for keyword in ITEMS for value in _as_list(one.get(keyword))]
            return [self.listed(value, {"allOf": items}, depth + 1) for value in instance]
        if not isinstance(instance, dict):
            return instance
        known = self.known(schema, instance)
        is_open = any(one.keys() & {OTHERS, "patternProperties"} for one in parts)
        names = [name for name in instance if is_open or not known or name in known]
        return {name: self.listed(instance[name], known.get(name, {}), depth + 1) for name in names}

    def known(self, schema: Any, instance: Any) -> dict[str, Any]:
        """The properties of `schema`, then what it requires besides."""
        known: dict[str, list[Any]] = {}
        required: list[str] = []
        for part in self._parts(schema, instance):
            if isinstance(part.get("properties"), dict):
                for name, value in part["properties"].items():
                    known.setdefault(name, []).append(value)
            if isinstance(part.get("required"), list):
                required += part["required"]
        for name in required:
            known.setdefault(name, [])
        return {name: {"allOf": values} for name, values in known.items()}

    def _parts(self, schema: Any, instance: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
        """The schemas that `schema` is made of, in order; of alternatives those that `instance` satisfies, if any."""
        if not isinstance(schema, dict) or depth > MAX_DEPTH:
            return
        own = False
        for keyword, value in schema.items():
            if keyword in ("allOf", "anyOf", "oneOf") and isinstance(value, list):
                holding = value if keyword == "allOf" else [one for one in value if self._holds(one, instance)]
                for one in holding or value:
                    yield from self._parts(one, instance, depth + 1)
            elif keyword == "$ref" and isinstance(value, str):
                yield from self._parts(self._target(value), instance, depth + 1)
            elif not own:
                own = True
                yield schema

    def _holds(self, schema: Any, instance: Any) -> bool:
        if not isinstance(schema, dict):
            return bool(schema)
        context = {name: self._document[name] for name in ("$schema", "$defs", "definitions") if name in self._document}
        return _is_valid(instance, {**context, **schema})

    def _target(self, reference: str) -> Any:
        target = self._document
        try:
            for part in unquote(reference).removeprefix("#").split("/")[1:]:
                target = target[part.replace("~1", "/").replace("~0", "~")]
        except (LookupError, TypeError):
            return None
        return target


@dataclass
class Tally:
    """What came of one way to use the schemas."""

    name: str
    schemas: int = 0
    instances: Counter[str] = field(default_factory=Counter)
    compile_ms: list[float] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)

    def report(self) -> None:
        enforced = len(self.compile_ms)
        invalid, valid = self.instances["invalid"], self.instances["valid"]
        times = sorted(self.compile_ms) or [0.0]
        print(f"{self.name}: {enforced} of {self.schemas} schemas enforced ({enforced / max(1, self.schemas):.1%})")
        print(f"  invalid accepted {self.instances['invalid accepted']} of {invalid}, ", end="")
        print(f"valid rejected {self.instances['valid rejected']} of {valid}", end=" ")
        print(f"({self.instances['valid rejected'] / max(1, valid):.2%}), ", end="")
        print(f"besides {self.instances['unlisted']} with properties that the schema does not list")
        p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
        print(f"  compile ms: median {statistics.median(times):.2f}, p99 {p99:.2f}, longest {times[-1]:.1f}")
        for reason, count in self.refusals.most_common(12):
            print(f"  refused {count:4}  {reason}")


class Bench:
    def __init__(self, verbose: bool) -> None:
        self._tokenizer = Tokenizer.load(DEMO)
        vocab_size = json.loads((DEMO / "config.json").read_text())["vocab_size"]
        self._compiler = GrammarCompiler(self._tokenizer, vocab_size, [self._tokenizer.special["<|im_end|>"]])
        self._verbose = verbose
        self.parameters = Tally("tool parameters")
        self.response_format = Tally("response_format")

    def add(self, name: str, schema: Any, tests: Sequence[dict[str, Any]]) -> None:
        """Runs the schema through both ways."""
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
                    continue  # no call can say it
                arguments = _known(data, schema, keys)
                if len(arguments) != len(data) and _is_valid(arguments, schema) != valid:
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
        """Feeds instances: whether it is valid, its spellings, and those without unlisted properties if it has any."""
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


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _types(schema: dict[str, Any]) -> Any:
    return schema.get("type", "")


def _known(data: dict[str, Any], schema: dict[str, Any], keys: Keys) -> dict[str, Any]:
    if schema.get(OTHERS, False) is not False or schema.keys() & COMPOSING:
        return data
    known = keys.known(schema, data)
    return {name: value for name, value in data.items() if name in known}


def _calls(arguments: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """The call's spellings: arguments by their names and the rest behind `**`, or all of them there."""
    names = {*schema.get("properties", {}), *_as_list(schema.get("required", []))}
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


def _is_valid(instance: Any, schema: Any) -> bool:
    try:
        return bool(jsonschema.validators.validator_for(schema)(schema).is_valid(instance))
    except Exception:  # a schema that jsonschema cannot read tells nothing
        return False


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--limit", type=int)
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
