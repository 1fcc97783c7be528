"""One key sends all kinds of costly requests at once; another must not wait."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.soak.attacks import HELLO, attack
from benchmarks.soak.clients import CHAT, connect
from benchmarks.soak.report import Report
from benchmarks.soak.requests import WEATHER
from tests.fleet import Service

KEYS = "[attacker]\nkey = 'a'\n\n[other]\nkey = 'b'\n"
SECONDS = 5.0  # within which each request of the other key is answered
QUESTION = [{"role": "user", "content": "What is the weather in Rome?"}]


def write_keys(folder: Path) -> Path:
    """Write a file with both keys, and return its path."""
    path = folder / "keys.toml"
    path.write_text(KEYS)
    return path


async def run(report: Report, server: Service, seconds: float = 120) -> None:
    loop, waits = asyncio.get_running_loop(), dict[str, list[float]]()
    with ProcessPoolExecutor(1) as process:  # in this process, the attackers' work would delay the other key's client
        attacker = loop.run_in_executor(process, attack, server.url, "a", seconds)
        async with connect(server.url) as client:
            client.headers["Authorization"] = "Bearer b"
            for kind, body in itertools.cycle(_requests()):
                if attacker.done():
                    break
                start = time.perf_counter()
                answer = await client.post(CHAT, json=body())
                waits.setdefault(kind, []).append(time.perf_counter() - start)
                if answer.status_code != 200:
                    report.check(False, f"a {kind} of the other key: {answer.status_code} {answer.text[:200]}")
        statuses = await attacker
    for kind, each in waits.items():
        report.check(
            max(each) <= SECONDS, f"{len(each)} times a {kind} of the other key, the slowest {max(each):.1f} s"
        )
    faults = Counter(status for status in statuses if status >= 500)
    report.check(not faults, f"{len(statuses)} answers to the attacker, 5xx: {dict(faults)}")


def _requests() -> list[tuple[str, Callable[[], dict[str, Any]]]]:
    """Return each kind of the other key's requests, with a function that makes one."""
    numbers = itertools.count()

    def schema() -> dict[str, Any]:
        names = [f"p{next(numbers)}" for _ in range(3)]
        properties = {name: {"type": "string", "maxLength": 8} for name in names}
        new = {"type": "object", "properties": properties, "required": names}
        form = {"type": "json_schema", "json_schema": {"name": "new", "schema": new}}
        return {"messages": HELLO, "response_format": form, "max_tokens": 60}

    return [
        ("chat", lambda: {"messages": HELLO, "max_tokens": 16}),
        ("tool chat", lambda: {"messages": QUESTION, "tools": [WEATHER], "tool_choice": "required", "max_tokens": 60}),
        ("new schema", schema),
    ]
