"""Forks one worker for each grammar.

The fork server loads the vocabulary once. Its standard input is the control socket. For each grammar:

1. The API server sends one end of a new connection through the control socket.
2. The fork server forks a worker.
3. The worker receives the grammar through the connection, sends its answer and exits.
4. The fork server sends the worker's exit status.
"""

from __future__ import annotations

import math
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path

from llguidance import LLMatcher, LLTokenizer

from server.chat.constrained.grammar_source import GrammarSource
from server.chat.constrained.vocabulary import Vocabulary
from server.chat.constrained.worker import messages
from server.chat.constrained.worker.compilation import analyse, known_tokens
from server.chat.constrained.worker.limits import ADDRESS_SPACE, CPU_SECONDS, STACK
from server.engine.sampling.constraint import Bitmask
from server.errors import InvalidRequestError

LENGTH = struct.Struct("!I")
TRACE = 2000  # characters of a traceback that are logged


def main() -> None:
    """Start workers until the server closes the socket at standard input."""
    control = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    vocabulary = Vocabulary.from_json(receive(control))
    tokenizer = vocabulary.ll_tokenizer()
    LLMatcher(tokenizer, 'start: "a"', log_level=0).compute_bitmask()  # makes allocations that all workers then share
    _serve(control, tokenizer, known_tokens(vocabulary.tokens))


def _serve(control: socket.socket, tokenizer: LLTokenizer, known: Bitmask) -> None:
    wakeup, on_signal = socket.socketpair()
    on_signal.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(on_signal.fileno(), warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, wakeup], [], [])
        if wakeup in ready:
            wakeup.recv(4096)
            _reap(running)
        if control in ready:
            message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not message:
                return
            for connection in (socket.socket(fileno=one) for one in descriptors):
                with suppress(OSError):  # if no process can be started, the connection closes without an answer
                    if (process := os.fork()) == 0:
                        _close_all([control, wakeup, on_signal, *running.values()])
                        _work(connection, tokenizer, known)
                    running[process] = connection


def _close_all(connections: list[socket.socket]) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for one in connections:
        one.close()


def _reap(running: dict[int, socket.socket]) -> None:
    """Report the exit status of each ended worker through its connection."""
    while running:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process == 0:
            return
        with running.pop(process) as connection, suppress(OSError):
            connection.sendall(b"\n%d" % os.waitstatus_to_exitcode(status))


def _work(connection: socket.socket, tokenizer: LLTokenizer, known: Bitmask) -> None:
    """Analyse the grammar received through `connection`, then exit.

    Exits earlier if the server closes the connection.
    """
    with suppress(Exception):
        _limit_resources()
        source = GrammarSource(receive(connection).decode())
        # The stack of this thread is smaller than the stacks of the server's threads. A grammar that does not overflow
        # this stack is therefore safe in the server.
        threading.stack_size(STACK)
        threading.Thread(target=_answer, args=(connection, source, tokenizer, known)).start()
        connection.recv(1)
    os._exit(1)


def _answer(connection: socket.socket, source: GrammarSource, tokenizer: LLTokenizer, known: Bitmask) -> None:
    answer: messages.Answer
    try:
        answer = analyse(source, tokenizer, known)
    except InvalidRequestError as error:
        answer = messages.Refused.of(error)
    except (MemoryError, RecursionError):
        os._exit(1)
    except Exception:
        answer = messages.Failed(traceback.format_exc()[-TRACE:])
    with suppress(OSError):
        connection.sendall(messages.to_json(answer))
    os._exit(0)


def _limit_resources() -> None:
    """Limit this process's CPU time and memory. Never raises an existing limit."""
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    _limit(resource.RLIMIT_CPU, 2 * math.ceil(CPU_SECONDS))
    _limit(resource.RLIMIT_CORE, 0)
    with suppress(OSError):  # systems other than Linux have no /proc
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _limit(resource.RLIMIT_AS, used + ADDRESS_SPACE)
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, Linux kills a worker first


def _limit(kind: int, value: int) -> None:
    limits = [one for one in (value, *resource.getrlimit(kind)) if one != resource.RLIM_INFINITY]
    resource.setrlimit(kind, (min(limits), min(limits)))


def receive(connection: socket.socket) -> bytes:
    """Receive a message, and return it without the length at its start.

    Raises EOFError if the connection closes before the end of the message.
    """
    return _exactly(connection, *LENGTH.unpack(_exactly(connection, LENGTH.size)))


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        if not (part := connection.recv(min(1 << 20, count - len(parts)))):
            raise EOFError
        parts += part
    return bytes(parts)
