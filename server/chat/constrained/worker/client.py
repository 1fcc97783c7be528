"""Starts the worker processes that analyse grammars, and talks to them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress

from server.chat.constrained.grammar_source import GrammarSource
from server.chat.constrained.vocabulary import Vocabulary
from server.chat.constrained.worker import messages
from server.chat.constrained.worker.fork_server import LENGTH
from server.chat.constrained.worker.limits import CPU_SECONDS, WALL_SECONDS
from server.chat.json_schema.normalize import too_large
from server.errors import GrammarAnalysisError, ModelNotReadyError

NICENESS = 10
"""The niceness of the workers. The engine's threads have priority."""
PROGRAM = f"import os; os.nice({NICENESS}); from server.chat.constrained.worker.fork_server import main; main()"
INHERITED = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "LANG", "TMPDIR")
"""The environment variables that the workers receive. Others may contain secrets."""

OUT_OF_MEMORY = (1, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT)
"""The exit statuses of a worker that has reached its stack or memory limit."""

logger = logging.getLogger(__name__)


class Workers:
    """Worker processes for one vocabulary.

    A fork server starts the workers. `start` or the first grammar starts the fork server.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> socket.socket:
        """Start the fork server unless it is running, and return the connection to it.

        Any thread may call this method.
        """
        with self._lock:
            if self._control is None:
                ours, theirs = socket.socketpair()
                with theirs:
                    self._process = subprocess.Popen(
                        [sys.executable, "-P", "-c", PROGRAM],
                        stdin=theirs.fileno(),
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                        # Ctrl-C in the terminal must not end it. In a session of its own, its niceness would have no
                        # effect on the server: Linux shares the CPUs equally between sessions (autogroup).
                        process_group=0,
                        env=_environment(),
                    )
                setup = self.vocabulary.to_json().encode()
                with suppress(OSError):  # the fork server has ended, so the next grammar starts a new one
                    ours.sendall(LENGTH.pack(len(setup)) + setup)
                self._control = ours
            return self._control

    async def analyse(self, source: GrammarSource) -> messages.Accepted:
        """Analyse `source` in a new worker and return the accepted grammar.

        Raises the errors of `GrammarCompiler.get`. Cancelling the coroutine ends the worker.
        """
        for _ in range(2):  # the second attempt uses a new fork server if the first one has ended
            answer, status = await self._answer(source.text.encode())
            if status is not None:
                break
            self.close()
        match _understood(answer, status, source.field):
            case messages.Accepted() as accepted:
                return accepted
            case messages.Refused() as refused:
                raise refused.error
            case messages.Failed(trace):
                logger.error("The analysis of a grammar failed: %s", trace)
                raise GrammarAnalysisError(f"The server failed to analyse the grammar of `{source.field}`.")

    async def _answer(self, request: bytes) -> tuple[bytes, int | None]:
        """Send `request` to a new worker, and return its answer and exit status.

        The status is None if no worker could be started, or if the fork server ended.
        """
        control = await asyncio.to_thread(self.start)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(control, [b"\0"], [theirs.fileno()])
            except OSError:
                ours.close()
                return b"", None
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            writer.write(LENGTH.pack(len(request)) + request)
            async with asyncio.timeout(WALL_SECONDS):
                answer, _, status = (await reader.read()).rpartition(b"\n")
        except TimeoutError:
            return b"", -signal.SIGPROF
        except OSError:
            return b"", None
        finally:
            writer.transport.abort()
        return answer, int(status) if status else None

    def close(self) -> None:
        """End the fork server. The next grammar starts a new one."""
        with self._lock:
            if self._control is not None and self._process is not None:
                self._control.close()
                self._process.kill()
                self._process.wait()
            self._control = self._process = None


def _understood(answer: bytes, status: int | None, field: str) -> messages.Answer:
    """Return the answer of a worker, or a refusal if the worker exceeded a limit.

    status: exit status, or None if the worker did not start.

    Raises ModelNotReadyError if the worker did not start or was killed.
    """
    if status == 0:
        return messages.from_json(answer)
    if status is None:
        raise ModelNotReadyError("The server cannot start a process to compile grammars.", "overloaded", 1.0)
    if status == -signal.SIGPROF:
        reason = f"it takes more than {CPU_SECONDS:g} seconds to compile"
    elif status in OUT_OF_MEMORY:
        reason = "it is nested too deeply, or needs too much memory to compile"
    else:
        message = f"The process that compiled the grammar of `{field}` was killed; the machine may be out of memory."
        raise ModelNotReadyError(message, "overloaded", 1.0)
    return messages.Refused.of(too_large(reason, field))


def _environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**inherited, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
