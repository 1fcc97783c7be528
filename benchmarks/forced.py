"""Measures how much time forced tokens save.

A grammar leaves no choice about a forced token, so several share one step. One stream writes calls of a strict tool,
alone and beside 15 streams. Every other call requests logprobs, which turns forcing off.

The prompt is cached. The number of forced tokens is the number of tokens minus the server's steps.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.servers import Bench, OwnServer, own_server
from server.bench.load import SAMPLING, Stream, prompt, user
from server.bench.report import Cell, Chart, Report

PART = "forced"
QUESTION = "A tool call with and without forced tokens"
OTHERS = (0, 15)
PROMPT = 64
MAX_TOKENS = 3000
CALLS_PER_ROUND = 3
COLUMNS = ("other streams", "tokens", "share forced", "with forcing s", "without s", "with to without")
TOOL = {
    "name": "set_thermostat",
    "description": "Set a room's thermostat",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {
            "target_temperature_celsius": {"type": "integer", "minimum": 10, "maximum": 30},
            "ventilation_mode": {"enum": ["automatic", "continuous", "scheduled"]},
            "room_identifier": {"type": "string", "minLength": 60, "maxLength": 80},
        },
        "required": ["target_temperature_celsius", "ventilation_mode", "room_identifier"],
        "additionalProperties": False,
    },
}
CALL: dict[str, Any] = {
    **SAMPLING,
    "tools": [{"type": "function", "function": TOOL}],
    "tool_choice": "required",
    "ignore_eos": False,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    seconds: duration of the call.
    tokens: number of tokens in the call.
    steps: number of the server's steps during the call.
    """

    seconds: float
    tokens: int
    steps: float


async def measure(bench: Bench) -> Report:
    """Measure calls with and without forcing in turns, with the same seeds."""
    found: dict[tuple[int, bool], list[Call]] = defaultdict(list)
    async with own_server(bench.model) as server:
        for others in OTHERS:
            streams = [Stream(user(prompt(PROMPT, f"{others} {i}")), MAX_TOKENS) for i in range(others)]
            async with server.endpoint.running(streams):
                await _call(server, 0, forcing=True)  # puts the prompt into the cache
                for seed in range(1, bench.rounds * CALLS_PER_ROUND + 1):
                    for forcing in (True, False):
                        found[others, forcing].append(await _call(server, seed, forcing=forcing))
    return _report(found)


async def _call(server: OwnServer, seed: int, *, forcing: bool) -> Call:
    before = await _steps(server)
    options = CALL | {"seed": seed, "logprobs": not forcing}
    stream = await server.endpoint.run(Stream(user("Make the room warm."), 200, options))
    return Call(stream.end - stream.sent, stream.tokens, await _steps(server) - before)


async def _steps(server: OwnServer) -> float:
    return sum(value for name, value in (await server.metrics()).items() if name.startswith("lfm_step_seconds_count"))


def _report(found: dict[tuple[int, bool], list[Call]]) -> Report:
    rows: list[list[Cell]] = []
    bars: dict[str, list[tuple[str, float]]] = {"with forcing": [], "without": []}
    for others in OTHERS:
        forced, free = [found[others, forcing] for forcing in (True, False)]
        seconds = [median(call.seconds for call in calls) for calls in (forced, free)]
        share = sum(call.tokens - call.steps for call in forced) / sum(call.tokens for call in forced)
        alone = others == 0  # beside others the steps are shared
        tokens = median(call.tokens for call in forced)
        rows.append([str(others), float(tokens), share if alone else None, *seconds, seconds[0] / seconds[1]])
        name = f"beside {others} streams" if others else "alone"
        for label, value in zip(bars, seconds, strict=True):
            bars[label].append((name, value))
    return Report(PART, QUESTION, COLUMNS, rows, [Chart("A call of a strict tool", "", "seconds", bars, "bars")])
