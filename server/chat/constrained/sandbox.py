"""Compiles grammars in a child process first, so that a harmful one cannot block or crash the server.

A client's grammar may take exponential time, or may be nested so deeply that the compiler's stack overflows and ends
its process. This file is also the program of the child process, so it imports nothing else from the server.
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
STACK = 1 << 20  # bytes, less than the stacks of the server's threads

# Rows and steps have larger limits than by default, for tools with thousands of arguments.
LIMITS = LLParserLimits(
    max_items_in_row=20_000,
    step_max_items=200_000,
    max_lexer_states=50_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)

_LENGTH = struct.Struct("!I")


class Sandbox:
    """A child process that compiles one grammar at a time. It is started for the first grammar.

    `special` are the special tokens that grammars may name; `seconds` is the time limit for each grammar.
    """

    def __init__(self, special: Sequence[str], seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._setup = json.dumps({"special": list(special), "seconds": seconds}).encode()
        self._running: _Running | None = None

    def try_compile(self, lark: str) -> str | None:
        """Return why compiling `lark` takes too many resources, or None if it does not.

        None does not mean that the grammar is valid.
        """
        if self._running is None or self._running.process.poll() is not None:
            self._running = self._start()
        running = self._running
        with suppress(OSError):  # the process has ended
            _send(running.connection, lark.encode())
            if running.connection.recv(1):
                return None
        status = running.process.wait()
        running.end()
        if status == -signal.SIGALRM:
            return f"it takes more than {self._seconds:g} seconds to compile"
        return "it is nested too deeply, or needs too much memory to compile"

    def _start(self) -> _Running:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", __file__],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in the terminal must not end it
            )
        _send(ours, self._setup)
        return _Running(process, ours, weakref.finalize(self, _end, process, ours))


@dataclass(frozen=True, slots=True)
class _Running:
    """The child process. Calling `end` closes the connection and waits for the process to exit.

    This happens automatically when the Sandbox is garbage-collected.
    """

    process: subprocess.Popen[bytes]
    connection: socket.socket
    end: weakref.finalize[[subprocess.Popen[bytes], socket.socket], Sandbox]


def _end(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    connection.close()
    process.wait()


def _send(connection: socket.socket, message: bytes) -> None:
    """Send a message preceded by its length."""
    connection.sendall(_LENGTH.pack(len(message)) + message)


class _Bytes(TokenizerWrapper):
    """A tokenizer for llguidance with one token for each byte, plus the special tokens."""

    def __init__(self, special: Sequence[str]) -> None:
        self.is_tokenizer_wrapper = True
        self.bos_token_id = None
        self.tokens = [bytes([i]) for i in range(256)] + [token.encode() for token in special] + [b"<end>"]
        self.special_token_ids = list(range(256, len(self.tokens)))
        self.eos_token_id = len(self.tokens) - 1

    def __call__(self, text: str) -> list[int]:
        return list(text.encode())


def _serve() -> None:
    """Run the child process: compile each grammar received and answer with one byte after it.

    The alarm signal ends the process if a grammar exceeds the time limit.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    messages, answers = sys.stdin.buffer, sys.stdout.buffer
    setup = json.loads(_read(messages) or b"{}")
    vocabulary = _Bytes(setup["special"])
    tokenizer = LLTokenizer(vocabulary, n_vocab=len(vocabulary.tokens), eos_token=vocabulary.eos_token_id)
    while (lark := _read(messages)) is not None:
        signal.setitimer(signal.ITIMER_REAL, setup["seconds"])
        matcher = LLMatcher(tokenizer, lark.decode(), log_level=0, limits=LIMITS)
        if not matcher.is_error():
            matcher.compute_bitmask()
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(b"\0")
        answers.flush()


def _read(stream: BinaryIO) -> bytes | None:
    """Return the next message, or None at the end of the stream."""
    if len(length := stream.read(_LENGTH.size)) < _LENGTH.size:
        return None
    return stream.read(*_LENGTH.unpack(length))


if __name__ == "__main__":
    threading.stack_size(STACK)
    threading.Thread(target=_serve).start()
