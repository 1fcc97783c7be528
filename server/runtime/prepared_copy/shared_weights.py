"""Places weights in shared memory, where the system cannot drop them.

All servers of a user share one file per prepared copy. The first server writes it, and the last one to end removes it.
If a server is killed, the file stays until the next start, which uses it or removes it.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from server.errors import SharedMemoryError
from server.runtime.machine.memory import HEADROOM, memory_left
from server.runtime.prepared_copy.lookup import WEIGHTS, gigabytes, sampled

PARTIAL, LOCK = ".partial", ".lock"


def share(copy: Path, shared_memory: Path, tell: Callable[[str], None]) -> Path:
    """Return a folder in shared memory with the weights of a prepared copy.

    The folder stays at least until this process ends.

    copy: the folder of the prepared copy.
    shared_memory: the root of a file system in memory, such as /dev/shm.

    Raises SharedMemoryError if the weights cannot be placed in shared memory, or differ from the copy's.
    """
    try:
        root = _own_folder(shared_memory)
        _remove_unused(root, except_for=copy.name)
        lock = os.open(root / f"{copy.name}{LOCK}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _fill(root / copy.name, copy, lock, tell)
            _check(root / copy.name, copy)
        except BaseException:
            os.close(lock)  # releases the lock: other servers would wait for it until this one ends
            raise
    except OSError as error:
        raise SharedMemoryError(f"{shared_memory} cannot be used: {error}") from error
    atexit.register(_leave, root, lock)
    return root / copy.name


def remove_unused(shared_memory: Path) -> None:
    """Remove this user's weights in shared memory that no running server uses."""
    _remove_unused(_folder_in(shared_memory))


def _remove_unused(root: Path, except_for: str = "") -> None:
    for path in root.glob(f"*{LOCK}"):
        if path.stem == except_for:
            continue
        with path.open("r+b") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)


def _folder_in(shared_memory: Path) -> Path:
    return shared_memory / f"lfm-serve-{os.geteuid()}"


def _own_folder(shared_memory: Path) -> Path:
    """Return this user's folder in shared memory, which only this user may open.

    Raises SharedMemoryError if it belongs to another user or is open to others, who could change the weights.
    """
    folder = _folder_in(shared_memory)
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise SharedMemoryError(f"{folder} must belong to this user and be closed to others (mode 700)")
    return folder


def _fill(folder: Path, copy: Path, lock: int, tell: Callable[[str], None]) -> None:
    """Write the weights into `folder` unless another server has written them.

    Afterwards, this process holds a shared lock on `lock`.
    """
    while True:
        fcntl.flock(lock, fcntl.LOCK_SH)  # waits while another server writes the weights
        if folder.exists():
            return
        fcntl.flock(lock, fcntl.LOCK_EX)  # releases the lock first, so another server may write them in between
        if not folder.exists():
            _write(folder, copy, tell)


def _write(folder: Path, copy: Path, tell: Callable[[str], None]) -> None:
    size = (copy / WEIGHTS).stat().st_size
    free = shutil.disk_usage(folder.parent).free
    if free < size or memory_left() < size + HEADROOM:
        raise SharedMemoryError(
            f"the weights take {gigabytes(size)}, and {gigabytes(HEADROOM)} of memory must stay free, but only "
            f"{gigabytes(free)} of shared memory and {gigabytes(memory_left())} of memory are free"
        )
    tell(f"Copying {gigabytes(size)} of weights into shared memory ...")
    partial = folder.with_suffix(PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    try:
        shutil.copyfile(copy / WEIGHTS, partial / WEIGHTS)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(folder: Path, copy: Path) -> None:
    """Raise SharedMemoryError if the weights in `folder` differ from the copy's."""
    if sampled(folder / WEIGHTS) != sampled(copy / WEIGHTS):
        raise SharedMemoryError(
            f"the weights in {folder} differ from the prepared copy; stop the servers that use them"
        )


def _leave(root: Path, lock: int) -> None:
    os.close(lock)
    _remove_unused(root)
