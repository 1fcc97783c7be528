"""The program of the fork server: a process that knows the vocabulary and forks one worker for each grammar.

A worker analyses one grammar, answers, and exits, which gives all its memory back. Limits on its CPU time and address
space end it, and it ends itself if its sender closes the connection. The connection of a worker comes in through the
socket at standard input. The fork server writes the worker's exit status to it after the worker's answer.
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
from server.chat.constrained.worker.analysis import analyse, known_tokens
from server.chat.constrained.worker.limits import ADDRESS_SPACE, CPU_SECONDS, STACK
from server.engine.sampling.constraint import Bitmask
from server.errors import InvalidRequestError

LENGTH = struct.Struct("!I")
NICENESS = 10  # the engine's threads go first
TRACE = 2000  # characters of a trace that are worth logging


def main() -> None:
    """Serve until the other end of standard input is closed."""
    control = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    vocabulary = Vocabulary.from_json(receive(control))
    tokenizer = vocabulary.ll_tokenizer()
    LLMatcher(tokenizer, 'start: "a"', log_level=0).compute_bitmask()  # what this allocates, no worker has to
    os.nice(NICENESS)
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
                with suppress(OSError):  # no process can be started: the connection ends without an answer
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
    """Tell the senders of the workers that have ended their exit status."""
    while running:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process == 0:
            return
        with running.pop(process) as connection, suppress(OSError):
            connection.sendall(b"\n%d" % os.waitstatus_to_exitcode(status))


def _work(connection: socket.socket, tokenizer: LLTokenizer, known: Bitmask) -> None:
    """Be a worker: analyse the grammar that comes in, and exit once that is done or the sender has left."""
    with suppress(Exception):
        _limit_resources()
        source = GrammarSource(receive(connection).decode())
        # On a thread, whose stack is smaller than those of the server's threads.
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
    """Limit this process's CPU time and memory, but never beyond what the operator permits."""
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    _limit(resource.RLIMIT_CPU, 2 * math.ceil(CPU_SECONDS))
    _limit(resource.RLIMIT_CORE, 0)
    with suppress(OSError):  # not Linux
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _limit(resource.RLIMIT_AS, used + ADDRESS_SPACE)
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, a worker ends before the server


def _limit(kind: int, value: int) -> None:
    limits = [one for one in (value, *resource.getrlimit(kind)) if one != resource.RLIM_INFINITY]
    resource.setrlimit(kind, (min(limits), min(limits)))


def receive(connection: socket.socket) -> bytes:
    """Return the next message, which follows its length. Raises EOFError if the connection ends before it does."""
    return _exactly(connection, *LENGTH.unpack(_exactly(connection, LENGTH.size)))


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        if not (part := connection.recv(min(1 << 20, count - len(parts)))):
            raise EOFError
        parts += part
    return bytes(parts)
