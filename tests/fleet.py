"""Replicas, nginx and Prometheus as an operator runs them: processes on loopback, with the files of deploy/."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import openai

from benchmarks.processes import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
START_SECONDS = 120


def answers(url: str, status: int = 200) -> bool:
    """Return whether a GET gets this status now."""
    try:
        return httpx.get(url, timeout=5).status_code == status
    except httpx.TransportError:
        return False


@dataclass
class Service:
    """A process with its own port, which it keeps when it is restarted; its output goes to `log`."""

    command: Sequence[str]
    port: int
    log: Path
    ready_path: str
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LFM_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, env=environment, stdout=log, stderr=log)

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return answers(self.url + self.ready_path)

        wait_until(ready, START_SECONDS)

    def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_SECONDS)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


@dataclass(frozen=True)
class Fleet:
    """nginx in front of its replicas."""

    nginx: Service
    replicas: Sequence[Service]

    def client(self, retries: int = 0) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.nginx.url}/v1", api_key="none", max_retries=retries)


def replica(folder: Path, name: str, *options: str) -> Service:
    """Start a server, on the built-in model by default; return before it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "server", "serve", "--port", str(port), *options]
    return Service(command, port, folder / f"{name}.log", "/ready")


def nginx(folder: Path, replicas: Sequence[str], balance: str = "least-connections", **changes: str) -> Service:
    """Start nginx with our configuration in front of the addresses `replicas`.

    `changes` are other values of directives, such as `proxy_read_timeout="1s"`.
    """
    port, source = free_port(), DEPLOY / "nginx"
    configuration = (source / "nginx.conf").read_text().replace("/tmp/", f"{folder}/")
    configuration = configuration.replace("listen 8080;", f"listen 127.0.0.1:{port};")
    configuration = configuration.replace("/dev/stdout", f"{folder}/access.log").replace("/dev/stderr", "stderr")
    for name, value in changes.items():
        configuration = _change(configuration, name, value)
    listed = (source / "replicas.conf").read_text()
    for number, address in enumerate(replicas, start=1):
        listed = listed.replace(f"lfm-serve-{number}:8000", address)
    assert "lfm-serve-" not in listed.partition("server ")[2], "one address for each of the configured replicas"
    (folder / "nginx.conf").write_text(configuration)
    (folder / "replicas.conf").write_text(listed)
    shutil.copy(source / f"{balance}.conf", folder / "balance.conf")
    user = "user root;" if os.geteuid() == 0 else ""  # the workers write to the test's folder too
    command = ["nginx", "-c", str(folder / "nginx.conf"), "-e", "stderr", "-g", f"daemon off; {user}"]
    return Service(command, port, folder / "nginx.log", "/health")


def _change(configuration: str, name: str, value: str) -> str:
    lines = configuration.splitlines()
    found = [number for number, line in enumerate(lines) if line.split()[:1] == [name]]
    assert len(found) == 1, f"{name} is there {len(found)} times"
    lines[found[0]] = f"{name} {value};"
    return "\n".join(lines)


@contextlib.contextmanager
def fleet(folder: Path, *options: str, balance: str = "least-connections", **changes: str) -> Iterator[Fleet]:
    """Run two replicas behind nginx during the block, with their logs in `folder`."""
    with contextlib.ExitStack() as running:

        def stopped_at_the_end(service: Service) -> Service:
            running.callback(service.stop)
            return service

        replicas = [stopped_at_the_end(replica(folder, f"replica-{number}", *options)) for number in (1, 2)]
        for each in replicas:
            each.wait_until_ready()
        addresses = [each.address for each in replicas]
        proxy = stopped_at_the_end(nginx(folder, addresses, balance, **changes))
        proxy.wait_until_ready()
        yield Fleet(proxy, replicas)
