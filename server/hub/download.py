"""Downloads large files to huggingface_hub's cache.

Unlike huggingface_hub, this module resumes downloads that another process started.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import httpx
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    WeakFileLock,
    are_progress_bars_disabled,
    build_hf_headers,
)

from server.errors import HubError
from server.progress import show_progress

RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""The seconds to wait after consecutive attempts that receive nothing.

After an attempt that receives bytes, the delays start over.
"""
RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)
REFUSALS: dict[str | None, type[HfHubHTTPError]] = {
    "GatedRepo": GatedRepoError,
    "RepoNotFound": RepositoryNotFoundError,
    "RevisionNotFound": RevisionNotFoundError,
}
"""The error for each value of the hub's header X-Error-Code."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository.

    size: size in bytes.
    git_id: hash of the file in git; None if unknown.
    sha256: checksum of a large file; None for a small file.
    """

    path: str
    size: int
    git_id: str | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class HubCache:
    """The folder of one repository in huggingface_hub's cache.

    folder: path of the folder. Its subfolder `blobs` has files named by hash, and `snapshots` has links to them.
    """

    folder: Path

    def has(self, file: HubFile, commit: str) -> bool:
        """Return whether the whole file is in the cache."""
        return (self.folder / "snapshots" / commit / file.path).exists() or self._blob(file).exists()

    def bytes_to_fetch(self, missing: Iterable[HubFile]) -> int:
        """Return the number of bytes still to download for the files in `missing`.

        Bytes that interrupted downloads have received are not counted.
        """
        return sum(file.size - _size(_partial(self._blob(file))) for file in missing)

    def fetch(self, file: HubFile, url: str, say: Callable[[str], None]) -> None:
        """Download a large file, resuming an interrupted download.

        Raises HubError if the connection keeps breaking or the checksum is wrong.
        Raises HfHubHTTPError if the hub refuses the download.
        """
        blob = self._blob(file)
        lock = self.folder.parent / ".locks" / self.folder.name / f"{blob.name}.lock"
        for folder in (blob.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if blob.exists():
                return
            partial = _partial(blob)
            with partial.open("ab") as out:
                _receive(url, out, file, say)
            with partial.open("rb") as content:
                intact = hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
            if not intact:
                partial.unlink()
                raise HubError(f"{file.path} does not match its checksum. Run again to download it from the start.")
            partial.replace(blob)

    def _blob(self, file: HubFile) -> Path:
        return self.folder / "blobs" / (file.sha256 or file.git_id or "unknown")


def _partial(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.incomplete")


def _receive(url: str, out: BinaryIO, file: HubFile, say: Callable[[str], None]) -> None:
    """Append the rest of a file to `out`, reconnecting if the connection breaks.

    Raises HubError if several attempts in a row receive nothing.
    Raises HfHubHTTPError if the hub refuses the download.
    """
    delays = iter(RETRY_DELAYS)
    with (
        show_progress(
            file.path,
            file.size,
            say,
            lambda done: f"{file.path}: {size_text(done)} of {size_text(file.size)}.",
            start=out.tell(),
            bar=not are_progress_bars_disabled(),
        ) as advance,
        httpx.Client(follow_redirects=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as client,
    ):
        while (before := out.tell()) < file.size:
            reason = "the response ended early"
            try:
                for _ in _append_body(client, url, out):
                    advance(out.tell())
            except HfHubHTTPError as error:
                if error.response.status_code not in RETRIED_STATUSES:
                    raise
                reason = first_line(error)
            except httpx.HTTPError as error:
                reason = first_line(error)
            if out.tell() > before:
                delays = iter(RETRY_DELAYS)
            elif (delay := next(delays, None)) is not None:
                time.sleep(delay)
            else:
                raise HubError(
                    f"The download of {file.path} was interrupted ({reason}) after {size_text(before)} of "
                    f"{size_text(file.size)}. Run again to resume."
                )


def _append_body(client: httpx.Client, url: str, out: BinaryIO) -> Iterator[None]:
    """Append the missing part of a file to `out`, in pieces.

    Yields after each piece, so that the caller can show the progress.
    """
    headers = build_hf_headers() | {"Range": f"bytes={out.tell()}-", "Accept-Encoding": "identity"}
    with client.stream("GET", url, headers=headers) as response:
        if not response.is_success:
            raise _refusal(response)
        if response.status_code != 206:  # the server ignored the range and sends the whole file
            out.seek(0)
            out.truncate()
        for piece in response.iter_bytes():
            out.write(piece)
            yield


def _refusal(response: httpx.Response) -> HfHubHTTPError:
    """Return the error that huggingface_hub raises for `response`."""
    kind = REFUSALS.get(response.headers.get("X-Error-Code"), HfHubHTTPError)
    message = f"status {response.status_code} for {response.url.copy_with(query=None)}"
    return kind(message, response=cast("Any", response))  # huggingface_hub expects its own HTTP library's type


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type's name if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def size_text(size: int) -> str:
    """Return a size in bytes as text: "1.2 GB" or "3.4 MB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
