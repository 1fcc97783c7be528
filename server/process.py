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
"""Maximum time for `atexit` functions, which may wait for child processes."""


def open_standard_streams() -> None:
    """Replace standard streams that were closed when the process started.

    Otherwise, the next file to be opened would get a closed stream's descriptor. Native libraries would then write
    errors into that file.
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

    If the input is a pipe from the parent process, it also ends when the parent is killed.
    """

    def wait_for_end() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_end, name="standard input", daemon=True).start()


def end_process(code: int) -> NoReturn:
    """End the process without waiting for its threads.

    A normal exit would wait for threads that may be stuck. While a model is loading, a normal exit would crash in
    onnxruntime.
    """
    last_resort = threading.Timer(EXIT_SECONDS, os._exit, (code,))
    last_resort.daemon = True
    last_resort.start()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError):  # the stream is closed, or a signal interrupted a write to it
            stream.flush()
    os._exit(code)
