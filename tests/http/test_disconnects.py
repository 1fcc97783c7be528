"""A client that leaves frees its slot and does not affect the others, with and without a stream, in every phase."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chats import ENDLESS, HELLO
from tests.serving import Server, StartServer

SHORT = {"max_tokens": 60}
LONG = [{"role": "user", "content": "1 2 3 4 " * 450}]  # a prefill of many chunks


@pytest.fixture
def narrow(tiny_model: Path, start_server: StartServer) -> Server:
    """A server with one slot: a second request waits."""
    return start_server(model=str(tiny_model), max_seqs=1, max_waiting=8, threads=1)


async def leave_when(server: Server, phase: str, **body: Any) -> None:
    """Send a request and hang up once the server has come to `phase`."""
    async with httpx.AsyncClient(timeout=60) as client:
        request = asyncio.create_task(client.post(f"{server.url}/v1/chat/completions", json=body))
        while not reached(server, phase):
            assert not request.done(), request.result().text
            await asyncio.sleep(0.001)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)


def reached(server: Server, phase: str) -> bool:
    state = server.engine.state
    return {
        "waiting": len(state.waiting) > 0,
        "prefill": any(0 < s.computed < s.prompt_length for s in state.prefilling),
        "decode": len(state.decoding) > 0,
    }[phase]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
async def test_a_client_that_leaves_frees_its_slot(narrow: Server, phase: str, stream: bool) -> None:
    messages = LONG if phase == "prefill" else HELLO
    await leave_when(narrow, phase, messages=messages, stream=stream, **ENDLESS)
    await asyncio.to_thread(narrow.wait_until, narrow.is_idle)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_while_waiting_is_forgotten(narrow: Server, stream: bool) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        first = asyncio.create_task(
            client.post(f"{narrow.url}/v1/chat/completions", json={"messages": HELLO, "max_tokens": 1500} | ENDLESS)
        )
        await asyncio.to_thread(narrow.wait_until, lambda: narrow.engine.running == 1)
        await leave_when(narrow, "waiting", messages=HELLO, stream=stream, **ENDLESS)
        await asyncio.to_thread(narrow.wait_until, lambda: narrow.engine.waiting == 0)
        assert narrow.engine.running == 1
        assert (await first).json()["usage"]["completion_tokens"] == 1500
    await asyncio.to_thread(narrow.wait_until, narrow.is_idle)


async def test_half_of_the_clients_leave_and_the_rest_are_untouched(tiny: Server) -> None:
    """Twelve requests share four slots; each that stays gets the same answer as alone."""
    rng = random.Random(0)
    bodies: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": f"number {i} " * (1 + i * 8)}], "stream": i % 2 == 0}
        | ENDLESS
        | SHORT
        for i in range(12)
    ]
    async with httpx.AsyncClient(timeout=60) as client:

        async def answer(body: dict[str, Any]) -> str:
            return text_of((await client.post(f"{tiny.url}/v1/chat/completions", json=body)).text, body["stream"])

        alone = [await answer(body) for body in bodies]
        together = [asyncio.create_task(answer(body)) for body in bodies]
        leavers = rng.sample(range(12), 6)
        for i in leavers:
            await asyncio.sleep(0.01)
            together[i].cancel()
        results = await asyncio.gather(*together, return_exceptions=True)
    stayed = [i for i in range(12) if i not in leavers]
    assert [results[i] for i in stayed] == [alone[i] for i in stayed]
    await asyncio.to_thread(tiny.wait_until, tiny.is_idle)


def text_of(answer: str, stream: bool) -> str:
    """Return the answer without its IDs and times."""
    if not stream:
        return str(json.loads(answer)["choices"][0]["message"]["content"])
    events = [json.loads(line.removeprefix("data: ")) for line in answer.split("\n\n") if line.startswith("data: {")]
    assert answer.endswith("data: [DONE]\n\n")
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
