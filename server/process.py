"""The process around the server: its standard streams and its end."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

EXIT_SECONDS = 5.0
"""Time for the functions that run at the exit, which may wait for child processes."""


def open_standard_streams() -> None:
    """Open those of the standard streams that are closed.

    The next file or socket would get the descriptor of a closed one, and native libraries write errors to it. Output
    goes to standard error if only standard output is closed, and nowhere if both are.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or sys.stderr


def end_process(code: int) -> NoReturn:
    """End the process without waiting for its threads.

    A normal exit destroys onnxruntime's globals while a thread may still load a model, which aborts the process, and
    joins the threads of executors, which may be stuck.
    """
    last_resort = threading.Timer(EXIT_SECONDS, os._exit, (code,))
    last_resort.daemon = True
    last_resort.start()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError):  # closed, or interrupted by the signal while it is written
            stream.flush()
    os._exit(code)
