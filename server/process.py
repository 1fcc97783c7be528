"""Opens the standard streams of the server's process, and ends the process."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn

EXIT_SECONDS = 5.0
"""Maximum time for the exit functions (`atexit`), which may wait for child processes."""


def open_standard_streams() -> None:
    """Replace standard streams that were already closed when the process started.

    Otherwise, the next file or socket would get the descriptor of a closed stream, and native libraries would write
    their errors to that file or socket. Output to a closed standard output goes to standard error instead. Output to a
    closed standard error is discarded.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or sys.stderr


def stop_at_end_of_input() -> None:
    """Send this process a SIGTERM when its standard input ends.

    If the input is a pipe from the parent process, the input ends when the parent does, even if the parent is killed.
    """

    def wait_for_end() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_end, name="standard input", daemon=True).start()


def end_process(code: int) -> NoReturn:
    """End the process without waiting for its threads.

    A normal exit would destroy onnxruntime's globals, which aborts the process if a thread is still loading a model.
    It would also wait for the threads of executors, which may be stuck.
    """
    last_resort = threading.Timer(EXIT_SECONDS, os._exit, (code,))
    last_resort.daemon = True
    last_resort.start()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError):  # the stream is closed, or a signal interrupted a write to it
            stream.flush()
    os._exit(code)
