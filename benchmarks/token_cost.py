"""How much CPU does the server use per streamed token, without the model?

    python -m benchmarks.token_cost [--clients 64] [--tokens 300] [--rounds 3] [--profile FILE]

Measures the event loop's thread and the engine's threads. The whole server runs in this process on the built-in model
with one compute thread, and the clients in another, over real sockets. The figure is a round's CPU seconds, from
parsing requests to the last byte of the answers, divided by its tokens. The clients check that every stream is
complete. `--profile` saves a cProfile of the event loop's thread.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import onnxruntime

from server.app import create_app, create_server, exempt_from_collection
from server.front.listener import listen
from server.settings import Settings

START_SECONDS = 60.0


class ModelClock:
    """CPU seconds that threads spend inside onnxruntime."""

    def __init__(self) -> None:
        self.seconds = 0.0
        run = onnxruntime.InferenceSession.run_with_iobinding

        def timed(session: Any, *arguments: Any) -> None:
            before = time.thread_time()
            run(session, *arguments)
            self.seconds += time.thread_time() - before

        onnxruntime.InferenceSession.run_with_iobinding = timed


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds per token of the event loop, and of the engine less the model."""

    loop: float
    engine: float


class Server:
    """A server on its own thread, with CPU clocks of the event loop and the engine."""

    def __init__(self, clients: int, profile: cProfile.Profile | None) -> None:
        self._model = ModelClock()
        settings = Settings(max_seqs=clients, max_waiting=clients, threads=1, log_level="warning")
        listener = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = create_app(settings, self.url, exempt_from_collection)
        self._server = create_server(app, settings)

        def run() -> None:
            if profile is not None:
                profile.enable()
            self._server.run(sockets=[listener])
            if profile is not None:
                profile.disable()

        self._loop = threading.Thread(target=run)
        self._loop.start()
        give_up = time.monotonic() + START_SECONDS
        while app.state.server.model is None:
            if time.monotonic() > give_up:
                raise SystemExit("The server did not become ready.")
            time.sleep(0.05)
        self._engine = [thread for thread in threading.enumerate() if thread.name.startswith("engine")]

    def clocks(self) -> tuple[float, float]:
        """Return the CPU seconds of the loop, and of the engine without the model."""
        return _cpu(self._loop), sum(map(_cpu, self._engine)) - self._model.seconds

    def stop(self) -> None:
        self._server.should_exit = True
        self._loop.join()


def _cpu(thread: threading.Thread) -> float:
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


async def stream(url: str, tokens: int, seed: int) -> int:
    """Read one answer, and return its number of tokens.

    Ends the process unless the stream is complete and nearly every token has an event; a partial character has none.
    """
    host, port = urlsplit(url).hostname, urlsplit(url).port
    message = {"role": "user", "content": f"Tell me a story about the number {seed}."}
    body = {"messages": [message], "stream": True, "stream_options": {"include_usage": True}, "seed": seed}
    body |= {"max_tokens": tokens, "ignore_eos": True, "skip_special_tokens": False}
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    )
    usage, events = None, 0
    while (line := await reader.readline()).strip() != b"data: [DONE]":
        if not line:
            raise SystemExit("A stream ended early.")
        events += line.startswith(b"data: ")
        if b'"usage":{' in line:
            usage = json.loads(line.removeprefix(b"data: "))["usage"]
    writer.close()
    if usage is None or usage["completion_tokens"] != tokens:
        raise SystemExit(f"A stream is incomplete: {usage}.")
    if events < 0.9 * tokens:
        raise SystemExit(f"{events} events are too few for {tokens} tokens.")
    return tokens


async def streams(url: str, clients: int, tokens: int) -> None:
    """Read one answer per client at once, and print the number of all tokens."""
    print(sum(await asyncio.gather(*(stream(url, tokens, seed) for seed in range(clients)))))


def measure(server: Server, clients: int, tokens: int) -> Cost:
    command = [sys.executable, "-m", "benchmarks.token_cost", "--as-clients-of", server.url]
    command += ["--clients", str(clients), "--tokens", str(tokens)]
    loop, engine = server.clocks()
    count = int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    loop_after, engine_after = server.clocks()
    return Cost((loop_after - loop) / count * 1e6, (engine_after - engine) / count * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64, help="streams at once (default: 64)")
    parser.add_argument("--tokens", type=int, default=300, help="per answer (default: 300)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements (default: 3)")
    parser.add_argument("--profile", metavar="FILE", help="save a cProfile of the event loop's thread")
    parser.add_argument("--as-clients-of", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_clients_of:
        asyncio.run(streams(options.as_clients_of, options.clients, options.tokens))
        return
    profile = cProfile.Profile() if options.profile else None
    server = Server(options.clients, profile)
    measure(server, options.clients, 20)  # warm-up
    costs = [measure(server, options.clients, options.tokens) for _ in range(options.rounds)]
    server.stop()
    if profile is not None:
        profile.dump_stats(options.profile)
    loop, engine = (statistics.median(getattr(cost, part) for cost in costs) for part in ("loop", "engine"))
    print(
        f"CPU per token without the model, {options.clients} clients of {options.tokens} tokens (medians of "
        f"{options.rounds}): {loop + engine:.1f} us = event loop {loop:.1f} us + engine {engine:.1f} us"
    )


if __name__ == "__main__":
    main()
