"""Measures what metrics, logs and traces together cost at 64 streams.

    python -m benchmarks.telemetry_cost [--pairs 6] [--rounds 6] [--streams 64] [--requests 1] [--tokens 256]

Two servers on the built-in model take turns. The observed one is scraped every second, logs JSON and sends spans to a
collector. The bare one does none of this. Each round yields the ratios of throughput and of CPU time per token.
Quote the medians. Several pairs of servers run, because two processes of one program differ by a few percent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from benchmarks.processes import cpu_seconds, free_port
from server.bench.load import prompt, user

OBSERVED = "from server.cli import main; main()"
BARE = f"""
from server.telemetry.metrics import Metrics
Metrics.step = Metrics.request = lambda self, record: None
{OBSERVED}
"""
COLLECTOR = "from benchmarks.telemetry_cost import collect; collect({port})"
SCRAPE_SECONDS = 1
PROMPT = 32  # tokens


@dataclass(frozen=True, slots=True)
class Server:
    """A server in its own process."""

    port: int
    pid: int

    async def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Send a request and return the whole response, unparsed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.read(-1)
        writer.close()
        return answer


@dataclass(frozen=True, slots=True)
class Load:
    """A load of several streams at once.

    requests: number of requests per stream.
    tokens: number of tokens per answer.
    """

    streams: int
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Results of one turn."""

    tokens_per_second: float
    cpu_ms_per_token: float


class Sink(http.server.BaseHTTPRequestHandler):
    """A trace collector that discards everything."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def collect(port: int) -> None:
    """Run a collector until the process ends."""
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Sink).serve_forever()


@contextlib.contextmanager
def process(code: str, *options: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python `code` during a `with` block, with its output in a file."""
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            [sys.executable, "-c", code, *options], stdout=log, stderr=log, env=os.environ | variables
        ) as started,
    ):
        try:
            yield started
        finally:
            started.terminate()


@contextlib.asynccontextmanager
async def serving(code: str, streams: int, *options: str, **variables: str) -> AsyncIterator[Server]:
    """Run the server that `code` starts, and yield it when it is ready."""
    port = free_port()
    options = ("serve", "--port", str(port), "--max-seqs", str(streams), *options)
    with process(code, *options, **variables) as started:
        server = Server(port, started.pid)
        while not await is_ready(server):
            if started.poll() is not None:
                raise SystemExit(f"The server ended with {started.returncode}.")
        yield server


async def is_ready(server: Server) -> bool:
    await asyncio.sleep(0.1)
    with contextlib.suppress(OSError):
        return b" 200 " in (await server.request("GET", "/ready")).split(b"\r\n", 1)[0]
    return False


async def measure(server: Server, load: Load, turn: int) -> Figures:
    """Measure one turn of the load."""

    async def client(number: int) -> int:
        tokens = 0
        for i in range(load.requests):
            body = {"messages": user(prompt(PROMPT, (turn, number, i))), "max_tokens": load.tokens, "ignore_eos": True}
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            answer = await server.request("POST", "/v1/chat/completions", json.dumps(body).encode())
            tokens += int(answer.rpartition(b'"completion_tokens":')[2].partition(b",")[0])
        return tokens

    cpu, begin = cpu_seconds(server.pid), time.perf_counter()
    tokens = sum(await asyncio.gather(*map(client, range(load.streams))))
    return Figures(tokens / (time.perf_counter() - begin), (cpu_seconds(server.pid) - cpu) / tokens * 1000)


async def measure_scraped(server: Server, load: Load, turn: int) -> Figures:
    """Measure one turn while /metrics is scraped."""

    async def scrape() -> None:
        while True:
            await server.request("GET", "/metrics")
            await asyncio.sleep(SCRAPE_SECONDS)

    scraping = asyncio.create_task(scrape())
    try:
        return await measure(server, load, turn)
    finally:
        scraping.cancel()


@contextlib.asynccontextmanager
async def pair(streams: int, collector: int, *, bare_first: bool) -> AsyncIterator[tuple[Server, Server]]:
    """Run the observed and the bare server during a `with` block.

    The order may matter, so callers alternate `bare_first`.
    """
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}"}
    async with contextlib.AsyncExitStack() as both:
        bare = serving(BARE, streams, "--log-level", "warning")
        observed = serving(OBSERVED, streams, "--log-format", "json", **traced)
        if bare_first:
            off = await both.enter_async_context(bare)
            yield await both.enter_async_context(observed), off
        else:
            on = await both.enter_async_context(observed)
            yield on, await both.enter_async_context(bare)


async def compare(load: Load, pairs: int, rounds: int) -> None:
    """Measure both servers in alternating turns, and print medians."""
    port = free_port()
    throughputs, costs = [], []
    with process(COLLECTOR.format(port=port)):
        for number in range(pairs):
            async with pair(load.streams, port, bare_first=bool(number % 2)) as (observed, bare):
                for turn in range(-1, rounds):
                    if turn % 2:
                        on, off = await measure_scraped(observed, load, turn), await measure(bare, load, turn)
                    else:
                        off, on = await measure(bare, load, turn), await measure_scraped(observed, load, turn)
                    if turn < 0:
                        continue  # warm-up
                    throughputs.append(on.tokens_per_second / off.tokens_per_second)
                    costs.append(on.cpu_ms_per_token / off.cpu_ms_per_token)
            count = (number + 1) * rounds
            print(
                f"{load.streams} streams, with to without: throughput {statistics.median(throughputs):.3f}, "
                f"CPU time per token {statistics.median(costs):.3f} (medians of {count})",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6, help="pairs of servers started (default: 6)")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each server of a pair (default: 6)")
    parser.add_argument("--streams", type=int, default=64, help="at once (default: 64)")
    parser.add_argument("--requests", type=int, default=1, help="per stream and turn (default: 1)")
    parser.add_argument("--tokens", type=int, default=256, help="per answer (default: 256)")
    args = parser.parse_args()
    asyncio.run(compare(Load(args.streams, args.requests, args.tokens), args.pairs, args.rounds))


if __name__ == "__main__":
    main()
