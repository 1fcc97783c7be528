"""Grammars tried out in a process of their own, where one that takes too long or breaks the compiler harms nobody.

What clients send may be exponential, or so deep that the compiler's stack ends, and with it the process. This file is
the process's program as well: it imports nothing of the server.
"""

from __future__ import annotations

import json
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

SECONDS = 5.0
MEMORY = 1 << 31  # bytes of address space
STACK = 1 << 20  # bytes: less than the server's threads have

# Rows and steps are wider than by default: a tool may have some thousand arguments.
LIMITS = LLParserLimits(
    max_items_in_row=20_000,
    step_max_items=200_000,
    max_lexer_states=50_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)

_LENGTH = struct.Struct("!I")


class Trial:
    """Tries grammars, one at a time, which may name the `special` tokens. The process starts with the first one."""

    def __init__(self, special: Sequence[str], seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._setup = json.dumps({"special": list(special), "seconds": seconds}).encode()
        self._running: _Running | None = None

    def run(self, lark: str) -> str | None:
        """Why `lark` must not be compiled here; None if it may be, which says nothing of whether it is right."""
        if self._running is None or self._running.process.poll() is not None:
            self._running = self._start()
        running = self._running
        with suppress(OSError):  # it has ended
            _send(running.connection, lark.encode())
            if running.connection.recv(1):
                return None
        status = running.process.wait()
        running.end()
        if status == -signal.SIGALRM:
            return f"it takes more than {self._seconds:g} seconds to compile"
        return "the compiler cannot bear it: it is nested too deep, or needs too much memory"

    def _start(self) -> _Running:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", __file__],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is not meant for it
            )
        _send(ours, self._setup)
        return _Running(process, ours, weakref.finalize(self, _end, process, ours))


@dataclass(frozen=True, slots=True)
class _Running:
    """The process; `end` waits for it, and is called at the latest when nobody has its Trial any more."""

    process: subprocess.Popen[bytes]
    connection: socket.socket
    end: weakref.finalize[[subprocess.Popen[bytes], socket.socket], Trial]


def _end(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    connection.close()
    process.wait()


def _send(connection: socket.socket, message: bytes) -> None:
    connection.sendall(_LENGTH.pack(len(message)) + message)


class _Bytes(TokenizerWrapper):
    """A vocabulary of all bytes and the special tokens."""

    def __init__(self, special: Sequence[str]) -> None:
        self.is_tokenizer_wrapper = True
        self.bos_token_id = None
        self.tokens = [bytes([i]) for i in range(256)] + [token.encode() for token in special] + [b"<end>"]
        self.special_token_ids = list(range(256, len(self.tokens)))
        self.eos_token_id = len(self.tokens) - 1

    def __call__(self, text: str) -> list[int]:
        return list(text.encode())


def _serve() -> None:
    """Compile what comes, and answer with one byte each time that this was survived."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    messages, answers = sys.stdin.buffer, sys.stdout.buffer
    setup = json.loads(_read(messages) or b"{}")
    vocabulary = _Bytes(setup["special"])
    tokenizer = LLTokenizer(vocabulary, n_vocab=len(vocabulary.tokens), eos_token=vocabulary.eos_token_id)
    while (lark := _read(messages)) is not None:
        signal.setitimer(signal.ITIMER_REAL, setup["seconds"])  # whose signal ends the process
        matcher = LLMatcher(tokenizer, lark.decode(), log_level=0, limits=LIMITS)
        if not matcher.is_error():
            matcher.compute_bitmask()
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(b"\0")
        answers.flush()


def _read(stream: BinaryIO) -> bytes | None:
    """The next message; None after the last."""
    if len(length := stream.read(_LENGTH.size)) < _LENGTH.size:
        return None
    return stream.read(*_LENGTH.unpack(length))


if __name__ == "__main__":
    threading.stack_size(STACK)
    threading.Thread(target=_serve).start()
