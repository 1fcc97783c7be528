"""The process in unusual environments, and its end at any time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.server_process import ServerProcess, server_process

SECONDS = 60
OPTIONS = ("--threads", "2", "--log-format", "text")

BUSY_LOADING = """
import onnxruntime
from server.loading import load as loading
from server.cli import main

def load_again_and_again(graph, *_):
    print("opening", flush=True)
    while True:
        onnxruntime.InferenceSession("server/demo/onnx/model.onnx")

loading.open_sessions = load_again_and_again
main()
"""

BUSY_NARROW = """
import dataclasses, onnxruntime, server.app
from server.cli import main
load = server.app.load_model

def open_again_and_again():
    print("opening", flush=True)
    while True:
        onnxruntime.InferenceSession("server/demo/onnx/model.onnx")

server.app.load_model = lambda *arguments: dataclasses.replace(load(*arguments), open_narrow=open_again_and_again)
main()
"""

STUCK_THREAD = """
import asyncio, threading, server.app
from server.cli import main
load = server.app.load_model

def load_with_a_stuck_thread(*arguments):
    print("opening", flush=True)
    return load(*arguments)

async def get_stuck(*_):
    await asyncio.to_thread(threading.Event().wait)

server.app.load_model, server.app.watch = load_with_a_stuck_thread, get_stuck
main()
"""

WITHOUT_A_HOME = """
import os, pwd
from server.cli import main
os.environ.pop("HOME", None)
os.environ.pop("XDG_CACHE_HOME", None)

def no_entry(_):
    raise KeyError("no such user")

pwd.getpwuid = no_entry
raise SystemExit(main())
"""


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("delay", [0, 0.05, 0.3])
@pytest.mark.parametrize("script", [BUSY_LOADING, BUSY_NARROW, STUCK_THREAD], ids=["loading", "narrow", "stuck"])
def test_a_signal_ends_the_process_in_order_whatever_its_threads_do(script: str, delay: float) -> None:
    command = [sys.executable, "-c", script, "serve", "--port", "0", "--threads", "1", "--log-format", "text"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
        ended(process),
    ):
        assert process.stdout is not None
        while "opening" not in (line := process.stdout.readline()):
            assert line
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)
        printed = process.communicate(timeout=SECONDS)[0]
        assert process.returncode == 0, printed
        assert "Traceback" not in printed


@pytest.mark.parametrize("line", ["Loading", "Warming up", "Serving"])
def test_a_signal_at_any_stage_of_the_start_ends_it_with_code_0(line: str) -> None:
    with server_process(*OPTIONS) as server:
        server.wait_for(line)
        assert server.terminate() == 0


@pytest.mark.parametrize("options", [["serve", "--port", "0"], ["prepare", "--prune"], ["serve", "--model", "~/m"]])
def test_a_user_without_a_home_gets_a_server_or_an_error(options: list[str]) -> None:
    command = [sys.executable, "-c", WITHOUT_A_HOME, *options]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
        ended(process),
    ):
        assert process.stdout is not None
        if options == ["serve", "--port", "0"]:
            while "Serving" not in (line := process.stdout.readline()):
                assert line
            return
        printed = process.communicate(timeout=SECONDS)[0]
        assert "Traceback" not in printed
        assert process.returncode == (0 if "--prune" in options else 1), printed


def answers_and_ends(server: ServerProcess) -> None:
    assert server.chat(max_tokens=2).status_code == 200
    assert server.terminate() == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_no_harm(closed: str) -> None:
    with server_process(*OPTIONS, before=f"exec {closed}") as server:
        server.wait_until_ready()
        for descriptor in range(3):
            assert "socket" not in os.readlink(f"/proc/{server.process.pid}/fd/{descriptor}")
        answers_and_ends(server)
        assert ("Serving lfm2-demo" in server.printed()) is (">&- 2>&-" not in closed)
        assert "Traceback" not in server.printed()


@pytest.mark.parametrize("streams", [("stdout",), ("stderr",), ("stdout", "stderr")], ids="-".join)
def test_pipes_that_nobody_reads_do_no_harm(streams: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    with server_process(*OPTIONS, **dict.fromkeys(streams, write)) as server:  # type: ignore[arg-type]
        os.close(write)
        server.wait_until_ready()
        answers_and_ends(server)
        assert "Traceback" not in server.printed()
        assert ("Serving lfm2-demo" in server.printed()) is (len(streams) == 1)


def test_narrow_sessions_open_although_nobody_reads_the_banner() -> None:
    script = BUSY_NARROW.replace('print("opening", flush=True)', 'print("opening", file=sys.stderr, flush=True)')
    command = [sys.executable, "-c", f"import sys{script}", "serve", "--port", "0", "--log-format", "text"]
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE, text=True) as process, ended(process):
        os.close(write)
        assert process.stderr is not None
        while "opening" not in (line := process.stderr.readline()):
            assert line


def test_an_address_space_of_a_gibibyte_suffices() -> None:
    with server_process("--threads", "1", before=f"ulimit -v {1 << 20}") as server:
        server.wait_until_ready()
        answers_and_ends(server)
        assert not re.search("Traceback|exception", server.printed())
