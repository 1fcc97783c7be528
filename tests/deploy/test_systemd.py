"""deploy/systemd against systemd's own checks, and the server as the unit runs it. No systemd runs here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from benchmarks.processes import free_port
from server.front.server import ABANDON_SECONDS
from server.settings import Settings
from tests.fleet import DEPLOY, ROOT, START_SECONDS, Service, answers, replica
from tests.waiting import wait_until

UNIT = (DEPLOY / "systemd" / "lfm-serve.service").read_text()
PROGRAM = "/opt/lfm-serve/bin/lfm-serve"

FORBID_EXECUTABLE_MEMORY = """
import ctypes, os, sys
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""What MemoryDenyWriteExecute does, by Linux's own means. Linux before 6.3 ignores it."""


def directives(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def systemd_analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if (program := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run([program, "--no-pager", *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "lfm-serve.service"
    unit.write_text(UNIT.replace(PROGRAM, "/bin/true"))  # systemd checks that the program exists
    port = shutil.copy(DEPLOY / "systemd" / "lfm-serve.socket", tmp_path)
    result = systemd_analyze("verify", unit, port)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_systemd_rates_the_units_exposure_below_2_of_10() -> None:
    path = DEPLOY / "systemd" / "lfm-serve.service"
    result = systemd_analyze("security", "--offline=true", "--threshold=20", path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_units_variables_are_options_of_the_server() -> None:
    variables = dict(pair.split("=", 1) for line in directives("Environment") for pair in shlex.split(line))
    options = {name.removeprefix("LFM_").lower(): value for name, value in variables.items() if "LFM_" in name}
    assert options
    Settings(**options)


def test_systemd_waits_until_the_drain_has_ended() -> None:
    settings = Settings()
    (seconds,) = directives("TimeoutStopSec")
    assert int(seconds) > settings.drain_delay + settings.drain_timeout + 2 * ABANDON_SECONDS


def test_systemd_allows_the_descriptors_that_the_default_connections_need() -> None:
    (limit,) = directives("LimitNOFILE")
    assert int(limit) > Settings().max_connections + 1000


@dataclass(frozen=True)
class Systemd:
    """The server with systemd's end of its notification socket."""

    server: Service
    notifications: socket.socket
    keys: Path

    def notified(self) -> str:
        return self.notifications.recv(4096).decode()

    def key_is_accepted(self, key: str) -> bool:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.get(f"{self.server.url}/v1/models", headers=headers, timeout=30).status_code == 200


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    keys = tmp_path / "keys.toml"
    keys.write_text('[alice]\nkey = "sk-old"\n')
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.bind(str(path))
        notifications.settimeout(START_SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setattr(sys, "executable", restricted_python(tmp_path))
        server = replica(tmp_path, "systemd", "--threads", "1", "--api-keys-file", str(keys))
        try:
            yield Systemd(server, notifications, keys)
        finally:
            server.stop()


def restricted_python(folder: Path) -> str:
    """Return a program that runs Python without the right to make memory executable."""
    program = folder / "python"
    command = shlex.join([sys.executable, "-c", FORBID_EXECUTABLE_MEMORY, sys.executable])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    return str(program)


def test_the_server_notifies_systemd_and_reads_its_keys_again_on_reload(systemd: Systemd) -> None:
    assert systemd.notified() == "READY=1"
    assert httpx.get(f"{systemd.server.url}/ready", timeout=30).status_code == 200
    assert systemd.key_is_accepted("sk-old")
    question = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "response_format": SCHEMA}
    headers = {"Authorization": "Bearer sk-old"}
    url = f"{systemd.server.url}/v1/chat/completions"
    assert httpx.post(url, json=question, headers=headers, timeout=120).status_code == 200

    systemd.keys.write_text('[alice]\nkey = "sk-new"\n')
    (reload,) = directives("ExecReload")
    pid = str(systemd.server.process.pid)
    subprocess.run(shlex.split(reload.replace("$MAINPID", pid)), check=True, timeout=60)
    wait_until(lambda: systemd.key_is_accepted("sk-new"))
    assert not systemd.key_is_accepted("sk-old")

    assert systemd.server.terminate() == 0
    assert systemd.notified() == "STOPPING=1"


SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "number", "schema": {"type": "object", "properties": {"n": {"type": "integer"}}}},
}


def test_systemd_may_hold_the_port(tmp_path: Path) -> None:
    if (program := shutil.which("systemd-socket-activate")) is None:
        pytest.skip("systemd is not installed")
    port, log = free_port(), tmp_path / "server.log"
    command = [program, f"--listen=127.0.0.1:{port}", sys.executable, "-m", "server", "serve", "--threads", "1"]
    with log.open("wb") as file:
        server = subprocess.Popen([*command, "--port", "1"], cwd=ROOT, stdout=file, stderr=file)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/ready"), START_SECONDS)
        assert f"on http://127.0.0.1:{port}" in log.read_text()
        server.terminate()
        assert server.wait(START_SECONDS) == 0
    finally:
        server.kill()


def test_systemd_must_pass_one_port(tmp_path: Path) -> None:
    command = ["sh", "-c", f"LISTEN_PID=$$ LISTEN_FDS=2 exec {shlex.quote(sys.executable)} -m server serve 3<&0"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        result = subprocess.run(command, cwd=ROOT, stdin=listener, capture_output=True, text=True, timeout=120)
    assert result.returncode != 0
    assert "must have exactly one ListenStream=" in result.stderr


def test_a_notification_socket_that_nobody_reads_does_not_stop_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", os.fspath(tmp_path / "missing"))
    server = replica(tmp_path, "server", "--threads", "1")
    try:
        server.wait_until_ready()
        wait_until(lambda: "READY=1 cannot be sent to systemd" in server.log.read_text())
        assert server.terminate() == 0
    finally:
        server.stop()
