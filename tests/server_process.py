"""`lfm-serve serve` as a process of its own, for tests of its start, its signals, its limits and what it prints."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import httpx

from benchmarks.processes import free_port
from tests.chats import CHAT, ENDLESS, HELLO
from tests.waiting import wait_until

SECONDS = 60


@dataclass(frozen=True)
class ServerProcess:
    """A server process; `output` has all that it has printed."""

    process: subprocess.Popen[bytes]
    url: str
    output: IO[bytes]

    def printed(self) -> str:
        """Return what the process has printed so far."""
        return os.pread(self.output.fileno(), os.fstat(self.output.fileno()).st_size, 0).decode()

    def wait_for(self, text: str) -> str:
        """Wait until the process prints `text`; return all that it has printed."""
        self.wait_until(lambda: text in self.printed())
        return self.printed()

    def wait_until_ready(self) -> None:
        self.wait_until(lambda: self.status("/ready") == 200)

    def wait_until(self, condition: Callable[[], object]) -> None:
        def holds() -> bool:
            assert self.process.poll() is None, f"the server ended: {self.printed()}"
            return bool(condition())

        wait_until(holds, SECONDS)

    def status(self, path: str) -> int | None:
        """Return the status of a GET, None without a response."""
        try:
            return self.get(path).status_code
        except httpx.TransportError:
            return None

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=SECONDS)

    def chat(self, **body: Any) -> httpx.Response:
        return httpx.post(self.url + CHAT, json={"messages": HELLO} | ENDLESS | body, timeout=SECONDS)

    @contextmanager
    def stream(self, **body: Any) -> Iterator[Iterator[str]]:
        """Start a stream; yield the lines after its first one."""
        chat = {"messages": HELLO, "stream": True} | ENDLESS | body
        with httpx.stream("POST", self.url + CHAT, json=chat, timeout=SECONDS) as answer:
            lines = answer.iter_lines()
            next(lines)
            yield (line for line in lines if line)

    def signal(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)

    def exit_code(self) -> int:
        """Wait for the end of the process."""
        return self.process.wait(SECONDS)

    def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        self.signal()
        return self.exit_code()


@contextmanager
def server_process(
    *options: str, before: str = "true", stdout: int | None = None, stderr: int | None = None, **variables: str
) -> Iterator[ServerProcess]:
    """Start a server on a free port, and kill it at the end.

    before: shell commands to run first, such as `ulimit -v 1000000`.
    stdout, stderr: file descriptors to write to instead of the process's `output`.
    variables: environment variables.
    """
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LFM_")} | variables
    serve = shlex.join([sys.executable, "-m", "server", "serve", "--port", str(port), *options])
    command = ["sh", "-c", f"{before}; exec {serve}"]
    scheme = "https" if "--ssl-certfile" in options else "http"
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(command, env=environment, stdout=stdout or output, stderr=stderr or output) as process,
    ):
        try:
            yield ServerProcess(process, f"{scheme}://127.0.0.1:{port}", output)
        finally:
            process.kill()
