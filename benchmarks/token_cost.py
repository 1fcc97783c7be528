"""Measures the server's CPU time per streamed token, without the model.

    python -m benchmarks.token_cost [PROTOCOL ...] [--clients 64] [--tokens 300] [--rounds 3] [--profile FILE]

The server runs in this process with one compute thread, and the clients in a second process. The result is divided into
the event loop's thread, the engine's threads without the model, and all others. Several protocols take turns, and are
compared with the first. `--profile` saves a cProfile of the event loop's thread.
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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import onnxruntime

from server.app import create_app, create_server, exempt_from_collection
from server.front.listener import listen
from server.settings import Settings

START_SECONDS = 60.0


class ModelClock:
    """CPU seconds that threads spend in onnxruntime."""

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
    """CPU time of event loop, engine without model, and other threads.

    In seconds, or in microseconds per token.
    """

    loop: float
    engine: float
    others: float

    @property
    def total(self) -> float:
        return self.loop + self.engine + self.others


@dataclass(frozen=True, slots=True)
class Protocol:
    """A protocol whose streams can be measured.

    body: returns the protocol's own request fields, from a question and a number of tokens.
    last: start of a stream's last line.
    usage: returns the number of answer tokens from an event, or None if the event has no usage.
    """

    path: str
    body: Callable[[str, int], dict[str, Any]]
    last: bytes
    usage: Callable[[Any], int | None]


def _chat(question: str, tokens: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"messages": messages, "max_tokens": tokens, "stream_options": {"include_usage": True}}


def _chat_usage(chunk: Any) -> int | None:
    return chunk["usage"]["completion_tokens"] if chunk.get("usage") else None


def _response(question: str, tokens: int) -> dict[str, Any]:
    return {"input": question, "max_output_tokens": tokens}


def _response_usage(event: Any) -> int | None:
    usage = event.get("response", {}).get("usage")
    return usage["output_tokens"] if usage else None


def _message(question: str, tokens: int) -> dict[str, Any]:
    return {"model": "lfm2-demo", "messages": [{"role": "user", "content": question}], "max_tokens": tokens}


def _message_usage(event: Any) -> int | None:
    return event["usage"]["output_tokens"] if event["type"] == "message_delta" else None


PROTOCOLS = {
    "chat": Protocol("/v1/chat/completions", _chat, b"data: [DONE]", _chat_usage),
    "responses": Protocol("/v1/responses", _response, b'data: {"type":"response.incomplete"', _response_usage),
    "messages": Protocol("/v1/messages", _message, b'data: {"type":"message_stop"', _message_usage),
}


class Server:
    """A server on its own thread, with CPU clocks."""

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

    def clocks(self) -> Cost:
        """Return the CPU seconds used so far."""
        loop, engine, model = _cpu(self._loop), sum(map(_cpu, self._engine)), self._model.seconds
        return Cost(loop, engine - model, time.process_time() - loop - engine)

    def stop(self) -> None:
        self._server.should_exit = True
        self._loop.join()


def _cpu(thread: threading.Thread) -> float:
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


async def stream(url: str, protocol: Protocol, tokens: int, seed: int) -> int:
    """Read one answer, and return its number of tokens.

    Ends the process if the stream is incomplete or many tokens have no event.
    """
    host, port = urlsplit(url).hostname, urlsplit(url).port
    body = protocol.body(f"Tell me a story about the number {seed}.", tokens)
    body |= {"stream": True, "seed": seed, "ignore_eos": True, "skip_special_tokens": False}
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
    writer.write(f"POST {protocol.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    usage, events, line = None, 0, b""
    while not line.startswith(protocol.last):
        if not (line := await reader.readline()):
            raise SystemExit("A stream ended early.")
        events += line.startswith(b"data: ")
        if b'"usage":{' in line:
            usage = protocol.usage(json.loads(line.removeprefix(b"data: ")))
    writer.close()
    if usage != tokens:
        raise SystemExit(f"A stream is incomplete: {usage} of {tokens} tokens.")
    if events < 0.9 * tokens:
        raise SystemExit(f"{events} events are too few for {tokens} tokens.")
    return tokens


async def streams(url: str, protocol: Protocol, clients: int, tokens: int) -> None:
    """Read one answer per client, all at once, and print the sum of their tokens."""
    print(sum(await asyncio.gather(*(stream(url, protocol, tokens, seed) for seed in range(clients)))))


def measure(server: Server, protocol: str, clients: int, tokens: int) -> Cost:
    command = [sys.executable, "-m", "benchmarks.token_cost", protocol, "--as-clients-of", server.url]
    command += ["--clients", str(clients), "--tokens", str(tokens)]
    before = server.clocks()
    count = int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    after = server.clocks()
    parts = ("loop", "engine", "others")
    return Cost(*((getattr(after, part) - getattr(before, part)) / count * 1e6 for part in parts))


def report(costs: dict[str, list[Cost]], clients: int, tokens: int) -> None:
    """Print the medians of the rounds."""
    first = next(iter(costs.values()))
    print(f"CPU per token without the model, {clients} clients of {tokens} tokens (medians of {len(first)}):")
    for name, rounds in costs.items():
        loop, engine, others, total = (
            statistics.median(getattr(cost, part) for cost in rounds) for part in ("loop", "engine", "others", "total")
        )
        line = f"{name}: {total:.1f} us = event loop {loop:.1f} us + engine {engine:.1f} us + others {others:.1f} us"
        if rounds is not first:
            ratio = statistics.median(one.total / base.total for one, base in zip(rounds, first, strict=True))
            line += f", {ratio - 1:+.1%}"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocols", nargs="*", metavar="PROTOCOL", help=f"{', '.join(PROTOCOLS)} (default: chat)")
    parser.add_argument("--clients", type=int, default=64, help="streams at once (default: 64)")
    parser.add_argument("--tokens", type=int, default=300, help="per answer (default: 300)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements (default: 3)")
    parser.add_argument("--profile", metavar="FILE", help="save a cProfile of the event loop's thread")
    parser.add_argument("--as-clients-of", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    protocols = options.protocols or ["chat"]
    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        parser.error(f"unknown protocol {unknown[0]} (choose from {', '.join(PROTOCOLS)})")
    if options.as_clients_of:
        asyncio.run(streams(options.as_clients_of, PROTOCOLS[protocols[0]], options.clients, options.tokens))
        return
    profile = cProfile.Profile() if options.profile else None
    server = Server(options.clients, profile)
    for protocol in protocols:
        measure(server, protocol, options.clients, 20)  # warm-up
    costs: dict[str, list[Cost]] = {protocol: [] for protocol in protocols}
    for _ in range(options.rounds):
        for protocol in protocols:
            costs[protocol].append(measure(server, protocol, options.clients, options.tokens))
    server.stop()
    if profile is not None:
        profile.dump_stats(options.profile)
    report(costs, options.clients, options.tokens)


if __name__ == "__main__":
    main()
