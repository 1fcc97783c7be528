"""Measures what constraints cost, in CPU time per token and in TTFT.

    python -m benchmarks.constraint_cost [--model FOLDER] [--streams 16] [--tokens 200] [--rounds 5]

The engine runs in this process. The CPU time of its threads, without the model, is measured while streams write a long
call and while they write freely. The TTFT is that of a request with and without forty tools.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import threading
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.random_schemas import tools_of_file
from server.chat.service import ChatService
from server.chat.types import Calling, ChatRequest, Message, Tool
from server.engine.observations import StepObservation
from server.engine.types import RequestContext, SamplingParams
from server.loading.load import load_model
from server.runtime.session import ModelSession
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
    "properties": {"entries": {"type": "array", "items": ENTRY, "minItems": 100}},  # more than the token limit allows
    "required": ["entries"],
    "additionalProperties": False,
}


class Clock:
    """Timings of the engine, in seconds.

    between: CPU time of its threads between runs of the model.
    steps: durations of decode steps.
    """

    def __init__(self) -> None:
        self.between = 0.0
        self.steps: list[float] = []
        self._thread = threading.local()

    def watch(self) -> None:
        """Patch ModelSession to time the threads between runs."""
        run = ModelSession.run

        def timed(*args: Any, **options: Any) -> Any:
            self.between += time.thread_time() - getattr(self._thread, "last", time.thread_time())
            try:
                return run(*args, **options)
            finally:
                self._thread.last = time.thread_time()

        ModelSession.run = timed  # type: ignore[method-assign]

    def observe(self, step: StepObservation) -> None:
        if step.kind == "decode":
            self.steps.append(step.seconds)


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds per token without the model, and milliseconds per decode step."""

    token: float
    step: float


class Bench:
    """A running engine and chat service.

    folder: model folder, or None for the built-in model.
    """

    def __init__(self, folder: str | None, streams: int) -> None:
        self._clock = Clock()
        self._clock.watch()
        settings = Settings(model=folder, max_seqs=streams, max_model_len=MAX_LEN)
        loaded = load_model(settings, self._clock.observe, lambda _: None)
        self._engine = loaded.engine
        self._service = ChatService(loaded.engine, replace(loaded.served.service.model, stop_token_ids=frozenset()))
        self._streams = streams
        tools = [Tool(tool["name"], None, tool["parameters"]) for tool in tools_of_file()[:TOOLS]]
        self._many = Calling(tuple(tools), required=True)
        self._long = Calling((Tool("write", None, WRITE),), required=True)
        self._engine.start()

    async def stop(self) -> None:
        await self._engine.stop()

    async def cost(self, tokens: int, *, constrained: bool) -> Cost:
        """Measure all streams writing `tokens` tokens each."""
        requests = [self._request(self._long if constrained else Calling(), tokens, i) for i in range(self._streams)]
        before = self._clock.between
        self._clock.steps.clear()
        counts = await asyncio.gather(*map(self._answer, requests))
        if set(counts) != {tokens}:
            raise SystemExit(f"A stream ended before its {tokens} tokens: {sorted(counts)}.")
        between = self._clock.between - before
        return Cost(between / sum(counts) * 1e6, statistics.median(self._clock.steps) * 1e3)

    async def milliseconds_to_first_token(self, *, constrained: bool) -> float:
        start = time.perf_counter()
        await self._answer(self._request(self._many if constrained else Calling(), 1, 0))
        return (time.perf_counter() - start) * 1e3

    def _request(self, calling: Calling, tokens: int, seed: int) -> ChatRequest:
        sampling = SamplingParams(temperature=0.8, seed=seed)
        return ChatRequest((Message("user", "Hello"),), sampling, calling=calling, max_tokens=tokens)

    async def _answer(self, request: ChatRequest) -> int:
        """Read an answer to its end, and return its number of tokens."""
        completion = await self._service.chat(request, RequestContext())
        async with aclosing(completion.deltas()) as deltas:
            async for _ in deltas:
                pass
        return completion.completion_tokens


async def measure(bench: Bench, streams: int, tokens: int, rounds: int) -> None:
    """Measure free and constrained answers in turn, and print medians."""
    costs: dict[bool, list[Cost]] = {False: [], True: []}
    delays: dict[bool, list[float]] = {False: [], True: []}
    first = await bench.milliseconds_to_first_token(constrained=True)
    for _ in range(rounds):
        for constrained in (False, True):
            costs[constrained].append(await bench.cost(tokens, constrained=constrained))
    for _ in range(10 * rounds):
        for constrained in (False, True):
            delays[constrained].append(await bench.milliseconds_to_first_token(constrained=constrained))
    await bench.stop()
    free, enforced = (statistics.median(cost.token for cost in costs[constrained]) for constrained in (False, True))
    step, enforced_step = (statistics.median(cost.step for cost in costs[constrained]) for constrained in (False, True))
    print(
        f"CPU per token without the model, {streams} streams: free {free:.1f} us, constrained {enforced:.1f} us, ",
        end="",
    )
    print(f"{enforced - free:.1f} us more (medians of {rounds})")
    print(f"duration of a step: free {step:.2f} ms, constrained {enforced_step:.2f} ms; ", end="")
    print(f"the constraints' CPU is {(enforced - free) * streams / step / 1e3:.1%} of a free step")
    free, enforced = (statistics.median(delays[constrained]) for constrained in (False, True))
    print(f"TTFT: free {free:.2f} ms, constrained by {TOOLS} tools {enforced:.2f} ms, ", end="")
    print(f"{enforced - free:.2f} ms more (medians of {10 * rounds}); {first:.1f} ms with new tools")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="model folder (default: the built-in model)")
    parser.add_argument("--streams", type=int, default=16, help="at once (default: 16)")
    parser.add_argument("--tokens", type=int, default=200, help="per answer (default: 200)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind (default: 5)")
    options = parser.parse_args()

    async def run() -> None:
        await measure(Bench(options.model, options.streams), options.streams, options.tokens, options.rounds)

    asyncio.run(run())


if __name__ == "__main__":
    main()
