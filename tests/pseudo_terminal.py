"""A command under a pseudo-terminal, as a user sees and types it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

ROWS, COLUMNS = 40, 120
SECONDS = 120
"""The longest wait for an output."""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|\x1b[=>78]|\r|\x07")
PROMPT = "<prompt>"
"""Stands in the output for the sequence with which a prompt begins (bracketed paste)."""
CTRL_C, CTRL_D, UP, ALT_ENTER = "\x03", "\x04", "\x1b[A", "\x1b\r"


class Terminal:
    """A running command, its output, and the position up to which the test has read it.

    raw: the output with its escape sequences.
    """

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self.raw = ""
        self._descriptor = descriptor
        self._seen = 0

    def send(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def enter(self, line: str, *expected: str) -> str:
        """Wait for the prompt, send a line, and return what follows it up to the last of `expected`."""
        self.expect(PROMPT)
        self.send(f"{line}\r")
        return "".join(self.expect(text) for text in expected)

    def expect(self, text: str) -> str:
        """Wait for a text after the one found last; return what stands between them, with the text."""
        give_up = time.monotonic() + SECONDS
        while (found := self._plain().find(text, self._seen)) < 0:
            assert time.monotonic() < give_up, f"{text!r} does not come after:\n{self._plain()[self._seen :][-4000:]}"
            assert self._read(), f"the command ended without {text!r}:\n{self._plain()[self._seen :]}"
        begin, self._seen = self._seen, found + len(text)
        return self._plain()[begin : self._seen]

    def wait(self) -> int:
        """Read all output, and return the exit code."""
        while self._read():
            pass
        return self.process.wait(SECONDS)

    def _read(self) -> bool:
        """Read what there is within a second; return whether there may be more."""
        if not select.select([self._descriptor], [], [], 1)[0]:
            return self.process.poll() is None
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # Linux: the other end is closed
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)

    def _plain(self) -> str:
        return ESCAPES.sub("", self.raw.replace("\x1b[?2004h", PROMPT))


@contextlib.contextmanager
def terminal(home: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    """Run `lfm-serve` under a pseudo-terminal during the block, with `home` for its history."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LFM_", "OPENAI_"))}
    environment |= {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", "XDG_STATE_HOME": str(home)}
    for name in ("NO_COLOR", "COLUMNS", "LINES", "CI"):
        environment.pop(name, None)

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a suite in the background ignores SIGINT

    process = subprocess.Popen(
        [sys.executable, "-m", "server", *arguments],
        env=environment | dict(variables or {}), stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, preexec_fn=take_terminal,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
