"""Decode throughput of the server against the raw session, same model, same machine, in one run.

    python -m benchmarks.decode_throughput MODEL_FOLDER [--batch 8] [--tokens 48] [--rounds 3]

Raw: an onnxruntime session whose KV cache is bound in place, decoding a batch of random tokens in a bare loop. Server:
`lfm-serve serve`, as many streams at once over HTTP with the model's default sampling, counted while all of them
decode. Both stay loaded and take turns; the ratio of medians is the figure to quote, absolute numbers move with the
machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from server.runtime.cpu import available_threads
from server.runtime.model_folder import open_model_folder
from server.runtime.session import ModelSession, SessionOptions
from server.runtime.slots import SlotPool

PROMPT_TOKENS = 64
LATE = 24
"""Steps that the first stream decodes before the last one's prompt is read, and some more."""


class RawSession:
    """A batch that decodes in a bare loop: no scheduler, no sampling, no HTTP."""

    def __init__(self, folder: Path, batch: int, max_len: int) -> None:
        model = open_model_folder(folder)
        self._session = ModelSession(model.graph, SessionOptions(available_threads(), PROMPT_TOKENS), model.head_dim)
        self._slots = SlotPool(self._session.contract.states, batch, max_len)
        self._batch = batch

    def tokens_per_second(self, tokens: int) -> float:
        # Tokens at random, not the likeliest: greedy rows fall into one rut, and rows that agree share their experts.
        tokens_of_rows = np.random.default_rng(0).integers(100, 1000, (self._batch, PROMPT_TOKENS + tokens))
        for slot in range(self._batch):
            self._slots.clear(slot)
            self._session.run(self._slots, slot, tokens_of_rows[slot : slot + 1, :PROMPT_TOKENS], np.array([0]))
        start = time.perf_counter()
        for length in range(PROMPT_TOKENS, PROMPT_TOKENS + tokens):
            past = np.full(self._batch, length)
            self._session.run(self._slots, 0, tokens_of_rows[:, length : length + 1], past).argmax(axis=1)
        return tokens * self._batch / (time.perf_counter() - start)


async def served_tokens_per_second(base_url: str, batch: int, tokens: int) -> float:
    """Over the time in which all streams run: from the last one's first token to the first one's end."""
    async with httpx.AsyncClient(base_url=base_url, timeout=600) as client:
        streams = await asyncio.gather(*(_arrivals(client, i, tokens + LATE) for i in range(batch)))
    start, end = max(stream[0][0] for stream in streams), min(stream[-1][0] for stream in streams)
    return sum(_count(stream, end) - _count(stream, start) for stream in streams) / (end - start)


async def _arrivals(client: httpx.AsyncClient, i: int, tokens: int) -> list[tuple[float, int]]:
    """When chunks of one stream came, and how many tokens there were by then, as usage says."""
    content = f"{i} " + "one two three four five six seven " * (PROMPT_TOKENS // 10)
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": tokens, "seed": i, "stream": True}
    body |= {"stream_options": {"continuous_usage_stats": True}, "ignore_eos": True}
    arrivals = []
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                usage = json.loads(line.removeprefix("data: "))["usage"]
                arrivals.append((time.perf_counter(), usage["completion_tokens"]))
    return arrivals


def _count(arrivals: list[tuple[float, int]], until: float) -> int:
    return max(tokens for when, tokens in arrivals if when <= until)


@contextmanager
def running_server(folder: Path, batch: int) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "server", "serve", "--model", str(folder), "--port", str(port)]
    process = subprocess.Popen([*command, "--max-seqs", str(batch)], stdout=subprocess.DEVNULL)
    base_url = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            try:
                if httpx.get(f"{base_url}/ready").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        else:
            raise SystemExit(f"The server ended with {process.returncode}.")
        yield base_url
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model folder")
    parser.add_argument("--batch", type=int, default=8, help="sequences at once (default 8)")
    parser.add_argument("--tokens", type=int, default=48, help="decode steps to time (default 48)")
    parser.add_argument("--rounds", type=int, default=3, help="times each is measured, in turns (default 3)")
    args = parser.parse_args()
    raw = RawSession(args.model, args.batch, PROMPT_TOKENS + args.tokens)
    raws, serveds = [], []
    with running_server(args.model, args.batch) as base_url:
        asyncio.run(served_tokens_per_second(base_url, args.batch, 1))  # warm
        for _ in range(args.rounds):
            raws.append(raw.tokens_per_second(args.tokens))
            serveds.append(asyncio.run(served_tokens_per_second(base_url, args.batch, args.tokens)))
            print(f"raw {raws[-1]:6.1f} tokens/s   served {serveds[-1]:6.1f} tokens/s", flush=True)
    ratio = statistics.median(serveds) / statistics.median(raws)
    print(f"batch {args.batch}: served / raw = {ratio:.3f} (medians of {args.rounds})")


if __name__ == "__main__":
    main()
