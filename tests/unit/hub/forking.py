"""Locates models, each in a process forked from this one.

huggingface_hub reads its environment when it is imported, so each download needs a new process. A fork of this one
starts in a third of the time, since everything else is imported already. Each line of the standard input is a request
as JSON: the arguments of `write_outcome`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import httpx  # noqa: F401
import tqdm.auto  # noqa: F401

import server.runtime.checkpoints
import server.runtime.model_folder  # noqa: F401
from server.errors import HubError


def write_outcome(model: list[Any], variables: dict[str, str], result: str) -> None:
    """Locate `model`, which is (name, revision, dtype); write (folder, error, lines of progress) to the file `result`.

    `variables` are added to the environment. Standard error goes to a file beside the result.
    """
    os.environ.update(variables)
    path = Path(result)
    os.chdir(path.parent)
    os.dup2(os.open(path.with_suffix(".stderr"), os.O_CREAT | os.O_WRONLY), sys.stderr.fileno())
    try:
        outcome = located(model)
    except BaseException:
        traceback.print_exc()
        outcome = (None, None, [])
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(outcome))
    partial.rename(path)


def located(model: list[Any]) -> tuple[str | None, str | None, list[str]]:
    from server.hub import download
    from server.hub.repository import locate

    download.RETRY_DELAYS = (0, 0)
    said: list[str] = []
    try:
        return str(locate(*model, said.append)), None, said
    except HubError as error:
        return None, str(error), said


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system removes the ended processes
    for line in sys.stdin:
        if os.fork() == 0:
            write_outcome(**json.loads(line))
            os._exit(0)
