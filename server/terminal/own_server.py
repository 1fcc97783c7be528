"""Starts a server for the duration of a chat."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from server.errors import StartupError

PROGRAM = """\
import sys
from server.cli import main
from server.process import stop_at_end_of_input
stop_at_end_of_input()
sys.exit(main(["serve"]))
"""
"""The server's program.

It serves until its standard input ends, so that it never outlives the chat.
"""
LOCAL = {"LFM_HOST": "127.0.0.1", "LFM_PORT": "0", "LFM_LOG_FORMAT": "json", "LFM_LOG_LEVEL": "info"}
STOP_SECONDS = 10.0


@contextmanager
def own_server(variables: Mapping[str, str], say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Run a server during a `with` block, and yield what it logs when ready.

    The yielded facts include `address`, `name` and `built_in`.

    variables: the server's options as LFM_* variables. LFM_* variables of this process are ignored.
    say: called with each line of progress while the server starts.

    Raises StartupError if the server does not start.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LFM_")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment | dict(variables) | LOCAL,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # the terminal's Ctrl-C stops an answer, not the server
    )
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        yield _facts(process.stderr, say)
    finally:
        process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _facts(log: Iterable[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Return the facts that the server logs when ready.

    `say` gets the log messages before the facts. A thread discards all later lines, so that the pipe never
    fills up.

    Raises StartupError if the log ends without facts.
    """
    last: deque[str] = deque(maxlen=1)
    for line in log:
        try:
            entry = json.loads(line)
        except ValueError:
            last.append(line.strip())
            continue
        if "facts" in entry:
            threading.Thread(target=deque, args=(log, 0), name="server log", daemon=True).start()
            facts: dict[str, Any] = entry["facts"]
            return facts
        say(str(entry.get("message", "")))
    reason = last[0].removeprefix("lfm-serve: ") if last else "it ended without a message."
    raise StartupError(f"The server did not start: {reason}")
