"""What constraints cost: CPU for each token, and what a grammar that is known already adds to the first token.

    python -m benchmarks.constraint_cost [--streams 16] [--tokens 200] [--rounds 5]

In process, on the built-in model: the engine's thread is timed in CPU seconds, less the model's own runs, while all
streams write a call of one of forty tools, and while they write freely. The first token is timed by the clock, from a
request of forty tools to its first delta, with and without the tools.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from benchmarks.random_schemas import tools_of_file
from server.app import BUILT_IN, PREFILL_CHUNK, load_model
from server.chat.service import ChatModel, ChatService
from server.chat.types import Calling, ChatRequest, Message, Tool
from server.engine.engine import Engine, EngineConfig
from server.engine.types import SamplingParams
from server.runtime.model_folder import open_model_folder
from server.runtime.session import ModelSession, SessionOptions
from server.settings import Settings

MAX_LEN = 1024
TOOLS = 40
ENTRY = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "kind": {"enum": ["file", "folder", "link"]},
        "size": {"type": "integer", "minimum": 0, "maximum": 10_000},
        "hidden": {"type": "boolean"},
    },
    "required": ["name", "kind", "size", "hidden"],
    "additionalProperties": False,
}
WRITE = {
    "type": "object",
    "properties": {"entries": {"type": "array", "items": ENTRY, "minItems": 100}},  # more than there are tokens for
    "required": ["entries"],
    "additionalProperties": False,
}


class TimedSession(ModelSession):
    """Counts the CPU seconds that its thread spends between runs."""

    between = 0.0
    _last: float | None = None

    def run(self, *args: Any, **kwargs: Any) -> Any:
        if self._last is not None:
            self.between += time.thread_time() - self._last
        result = super().run(*args, **kwargs)
        self._last = time.thread_time()
        return result


class Bench:
    """A running engine on the built-in model."""

    def __init__(self, streams: int) -> None:
        folder = open_model_folder(BUILT_IN)
        self._session = TimedSession(folder.graph, SessionOptions(1, max(PREFILL_CHUNK, streams)), folder.head_dim)
        self._engine = Engine(
            [self._session], EngineConfig(streams, streams, MAX_LEN, PREFILL_CHUNK, streams * MAX_LEN, 0, 1.0)
        )
        model: ChatModel = load_model(Settings(), observe=lambda step: None).served.service.model
        self._service = ChatService(self._engine, replace(model, stop_token_ids=frozenset()))
        self._streams = streams
        tools = [Tool(tool["name"], None, tool["parameters"]) for tool in tools_of_file()[:TOOLS]]
        self._many = Calling(tuple(tools), required=True)
        self._long = Calling((Tool("write", None, WRITE),), required=True)
        self._engine.start()

    async def stop(self) -> None:
        await self._engine.stop()

    async def microseconds_per_token(self, tokens: int, *, constrained: bool) -> float:
        """CPU between runs, of all streams at once."""
        requests = [self._request(self._long if constrained else Calling(), tokens, i) for i in range(self._streams)]
        before = self._session.between
        counts = await asyncio.gather(*map(self._answer, requests))
        if set(counts) != {tokens}:
            raise SystemExit(f"A stream ended before its {tokens} tokens: {sorted(counts)}.")
        return (self._session.between - before) / sum(counts) * 1e6

    async def milliseconds_to_first_token(self, *, constrained: bool) -> float:
        start = time.perf_counter()
        await self._answer(self._request(self._many if constrained else Calling(), 1, 0))
        return (time.perf_counter() - start) * 1e3

    def _request(self, calling: Calling, tokens: int, seed: int) -> ChatRequest:
        sampling = SamplingParams(temperature=0.8, seed=seed)
        return ChatRequest((Message("user", "Hello"),), sampling, calling=calling, max_tokens=tokens)

    async def _answer(self, request: ChatRequest) -> int:
        """How many tokens it has."""
        completion = await self._service.start(request)
        async with aclosing(completion.deltas()) as deltas:
            async for _ in deltas:
                pass
        return completion.completion_tokens


async def measure(streams: int, tokens: int, rounds: int) -> None:
    """Both ways in turns, medians printed."""
    bench = Bench(streams)
    costs: dict[bool, list[float]] = {False: [], True: []}
    delays: dict[bool, list[float]] = {False: [], True: []}
    first = await bench.milliseconds_to_first_token(constrained=True)
    for _ in range(rounds):
        for constrained in (False, True):
            costs[constrained].append(await bench.microseconds_per_token(tokens, constrained=constrained))
    for _ in range(10 * rounds):
        for constrained in (False, True):
            delays[constrained].append(await bench.milliseconds_to_first_token(constrained=constrained))
    await bench.stop()
    free, held = (statistics.median(costs[constrained]) for constrained in (False, True))
    print(f"CPU a token besides the model, {streams} streams: free {free:.1f} us, constrained {held:.1f} us, ", end="")
    print(f"which is {held - free:.1f} us more (medians of {rounds})")
    free, held = (statistics.median(delays[constrained]) for constrained in (False, True))
    print(f"first token: free {free:.2f} ms, constrained by {TOOLS} tools {held:.2f} ms, ", end="")
    print(f"which is {held - free:.2f} ms more (medians of {10 * rounds}); {first:.1f} ms where they are new")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    asyncio.run(measure(options.streams, options.tokens, options.rounds))


if __name__ == "__main__":
    main()
