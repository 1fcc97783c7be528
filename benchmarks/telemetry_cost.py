"""What do metrics, logs and traces cost at 64 streams, together?

    python -m benchmarks.telemetry_cost [--pairs 6] [--rounds 6] [--streams 64] [--requests 1] [--tokens 256]

Two servers with the built-in model take turns, pair after pair: two processes of one program differ by some percent for
as long as they live. One counts its metrics and is scraped every second, logs JSON into a file, and sends every
request's spans to a collector (OTLP). The other one counts nothing, logs nothing of requests and traces nothing. A
round's ratio compares the two right after each other; the median of the ratios is the figure to quote, of tokens per
second as clients get them, and of the server's own processor time per token, which says more where the machine is
shared. Nearly all of it is a cost of requests, not of tokens: the shorter the answers, the more it is. Clients do next
to nothing, as they have the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.server
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import prompt, user

WATCHED = "from server.cli import main; main()"
BARE = f"""
from server.telemetry.metrics import Metrics
Metrics.step = Metrics.request = lambda self, record: None
{WATCHED}
"""
COLLECTOR = "from benchmarks.telemetry_cost import collect; collect({port})"
SCRAPE_SECONDS = 1
PROMPT = 32  # tokens


@dataclass(frozen=True, slots=True)
class Server:
    """One of the two, in a process of its own."""

    port: int
    pid: int

    @property
    def cpu_seconds(self) -> float:
        """Processor time that its process has used."""
        user_ticks, system_ticks = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user_ticks) + int(system_ticks)) / os.sysconf("SC_CLK_TCK")

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The whole answer, undecoded."""
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
    """`streams` at once, each `requests` times in a row, with `tokens` in each answer."""

    streams: int
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one turn."""

    tokens_per_second: float
    cpu_ms_per_token: float


class Sink(http.server.BaseHTTPRequestHandler):
    """A collector that takes everything and keeps nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def collect(port: int) -> None:
    """Serve a collector until the process is ended."""
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Sink).serve_forever()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def process(code: str, *options: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Python running `code`, with its output in a file, until the end of the block."""
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
    """A server that `code` starts, once it is ready."""
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
        return b" 200 " in (await server.ask("GET", "/ready")).split(b"\r\n", 1)[0]
    return False


async def measure(server: Server, load: Load, turn: int) -> Figures:
    """One turn of the load."""

    async def client(number: int) -> int:
        tokens = 0
        for i in range(load.requests):
            asked = {"messages": user(prompt(PROMPT, (turn, number, i))), "max_tokens": load.tokens, "ignore_eos": True}
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
            answer = await server.ask("POST", "/v1/chat/completions", json.dumps(asked).encode())
            tokens += int(answer.rpartition(b'"completion_tokens":')[2].partition(b",")[0])
        return tokens

    cpu, begin = server.cpu_seconds, time.perf_counter()
    tokens = sum(await asyncio.gather(*map(client, range(load.streams))))
    return Figures(tokens / (time.perf_counter() - begin), (server.cpu_seconds - cpu) / tokens * 1000)


async def measure_scraped(server: Server, load: Load, turn: int) -> Figures:
    """The same while Prometheus is there."""

    async def scrape() -> None:
        while True:
            await server.ask("GET", "/metrics")
            await asyncio.sleep(SCRAPE_SECONDS)

    scraping = asyncio.create_task(scrape())
    try:
        return await measure(server, load, turn)
    finally:
        scraping.cancel()


@contextlib.asynccontextmanager
async def pair(streams: int, collector: int, *, bare_first: bool) -> AsyncIterator[tuple[Server, Server]]:
    """The watched server and the bare one; who is started first may matter, so it is to alternate."""
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}"}
    async with contextlib.AsyncExitStack() as both:
        bare = serving(BARE, streams, "--log-level", "warning")
        watched = serving(WATCHED, streams, "--log-format", "json", **traced)
        if bare_first:
            off = await both.enter_async_context(bare)
            yield await both.enter_async_context(watched), off
        else:
            on = await both.enter_async_context(watched)
            yield on, await both.enter_async_context(bare)


async def compare(load: Load, pairs: int, rounds: int) -> None:
    """Both in turns, and who is first in turns, too."""
    port = free_port()
    throughputs, costs = [], []
    with process(COLLECTOR.format(port=port)):
        for number in range(pairs):
            async with pair(load.streams, port, bare_first=bool(number % 2)) as (watched, bare):
                for turn in range(-1, rounds):
                    if turn % 2:
                        on, off = await measure_scraped(watched, load, turn), await measure(bare, load, turn)
                    else:
                        off, on = await measure(bare, load, turn), await measure_scraped(watched, load, turn)
                    if turn < 0:
                        continue  # warm now
                    throughputs.append(on.tokens_per_second / off.tokens_per_second)
                    costs.append(on.cpu_ms_per_token / off.cpu_ms_per_token)
            count = (number + 1) * rounds
            print(
                f"{load.streams} streams, with to without: throughput {statistics.median(throughputs):.3f}, "
                f"processor time per token {statistics.median(costs):.3f} (medians of {count})",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6, help="times both are started (default 6)")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each in a pair (default 6)")
    parser.add_argument("--streams", type=int, default=64, help="at once (default 64)")
    parser.add_argument("--requests", type=int, default=1, help="of each stream in a turn (default 1)")
    parser.add_argument("--tokens", type=int, default=256, help="of each answer (default 256)")
    args = parser.parse_args()
    asyncio.run(compare(Load(args.streams, args.requests, args.tokens), args.pairs, args.rounds))


if __name__ == "__main__":
    main()
