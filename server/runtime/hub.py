"""Models from the Hugging Face hub: what is needed of a repository, brought into the hub's own cache.

huggingface_hub does the talking and lays out the cache, so its environment variables hold here too. Only large files
are fetched here: it begins them anew in every process. Knows nothing of what the files say.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO

from huggingface_hub import HfApi, constants, get_session, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers, hf_raise_for_status, tqdm  # type: ignore[attr-defined]

from server.errors import HubError, ModelFolderError
from server.runtime.model_folder import choose_dtype, graphs_by_dtype, read_graph

Progress = Callable[[str], None]

REPO_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
COMPANIONS = (
    "config.json",
    "generation_config.json",
    "genai_config.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "chat_template.*",
    "vocab.*",
    "merges.txt",
)
RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds to wait after each attempt at a file that brought nothing; an attempt that brought bytes starts anew."""
PASSING_STATUSES = (408, 429, 500, 502, 503, 504)
# The base of all errors of whichever HTTP client huggingface_hub is built on.
TransportError: type[BaseException] = HfHubHTTPError.__bases__[0]


def locate(model: str, revision: str | None, dtype: str, progress: Progress | None = None) -> Path:
    """The folder of `model`: a path that exists, else a repository on the hub, which is downloaded.

    Raises HubError where it is neither, and as `download` does.
    """
    path = Path(model).expanduser()
    if path.exists():
        return path
    if not is_repo_id(model):
        raise HubError(f"{model} is neither a folder here nor the name of a model on the hub (organization/name).")
    return download(model, revision, dtype, progress)


def is_repo_id(text: str) -> bool:
    """Whether `text` may name a repository: `organization/name`."""
    return REPO_ID.fullmatch(text) is not None


def download(repo_id: str, revision: str | None, dtype: str, progress: Progress | None = None) -> Path:
    """Bring a model's graph of `dtype`, its weights, configs and tokenizer into the cache; returns their folder.

    `revision` is a branch, tag or commit, "main" if None. What is cached is not asked for again, and where the hub
    does not answer, the cache is all there is. `progress` is told what is being done. Raises HubError, saying what to
    do about it.
    """
    say = progress or (lambda _: None)
    try:
        with _explained(repo_id, revision):
            listing = _list(repo_id, revision)
    except HubError as error:
        folder = _cached(repo_id, revision, dtype, error)
        if not constants.HF_HUB_OFFLINE:
            say(f"{error} Serving {repo_id} from the cache.")
        return folder
    files = _choose(repo_id, listing.files, dtype)
    cache = _Cache(Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo_id, repo_type="model")))
    missing = [file for file in files if not cache.has(file, listing.commit)]
    if missing:
        size = cache.bytes_to_fetch(missing)
        _check_space(repo_id, size, cache.folder)
        say(f"Downloading {len(missing)} files of {repo_id}, {_size_text(size)}, to {cache.folder}.")
    with _explained(repo_id, revision):
        for file in missing:
            if file.sha256 is not None:
                say(f"Downloading {file.path}, {_size_text(file.size)}.")
                cache.fetch(file, hf_hub_url(repo_id, file.path, revision=listing.commit))
        paths = [file.path for file in files]
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=paths, tqdm_class=_NoBar))


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a repository: `size` in bytes, and `sha256` where the hub keeps it outside git, as all large ones."""

    path: str
    size: int
    git_id: str | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class _Listing:
    commit: str
    files: tuple[_File, ...]


@dataclass(frozen=True, slots=True)
class _Cache:
    """What is there of one repository: `blobs` by hash, `snapshots` of links to them by commit."""

    folder: Path

    def has(self, file: _File, commit: str) -> bool:
        return (self.folder / "snapshots" / commit / file.path).exists() or self._blob(file).exists()

    def bytes_to_fetch(self, missing: Iterable[_File]) -> int:
        return sum(file.size - _size(_partial(self._blob(file))) for file in missing)

    def fetch(self, file: _File, url: str) -> None:
        """Bring in a large file, going on where an earlier attempt or process stopped."""
        blob = self._blob(file)
        lock = self.folder.parent / ".locks" / self.folder.name / f"{blob.name}.lock"
        for folder in (blob.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if blob.exists():
                return
            partial = _partial(blob)
            with partial.open("ab") as out:
                _receive(url, out, file)
            with partial.open("rb") as content:
                intact = hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
            if not intact:
                partial.unlink()
                raise HubError(f"{file.path} does not have its checksum: run again to download it anew.")
            partial.replace(blob)

    def _blob(self, file: _File) -> Path:
        return self.folder / "blobs" / (file.sha256 or file.git_id or "unknown")


def _check_space(repo_id: str, needed: int, folder: Path) -> None:
    disk = next(parent for parent in folder.parents if parent.exists())
    if needed > (free := shutil.disk_usage(disk).free):
        raise HubError(
            f"{repo_id} needs {_size_text(needed)} more and {disk} has {_size_text(free)} free: make room, choose a "
            "smaller dtype, or set HF_HOME to a folder on another disk."
        )


def _partial(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.incomplete")


class _NoBar(tqdm):
    """For small files and links to large ones: a bar would come and go in every log."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"disable": True})  # type: ignore[no-untyped-call]


def _receive(url: str, out: BinaryIO, file: _File) -> None:
    """Append to `out` what it lacks of a file, however often the connection breaks, as long as bytes come."""
    delays = iter(RETRY_DELAYS)
    options = {"total": file.size, "initial": out.tell(), "unit": "B", "unit_scale": True}
    with tqdm(desc=file.path, disable=None, **options) as bar:  # type: ignore[no-untyped-call]
        while (before := out.tell()) < file.size:
            reason = "the answer ended early"
            try:
                for _ in _append_body(url, out):
                    bar.update(out.tell() - bar.n)
            except TransportError as error:
                if isinstance(error, HfHubHTTPError) and error.response.status_code not in PASSING_STATUSES:
                    raise
                reason = _first_line(error)
            if out.tell() > before:
                delays = iter(RETRY_DELAYS)
            elif (delay := next(delays, None)) is not None:
                time.sleep(delay)
            else:
                raise HubError(
                    f"The download of {file.path} was interrupted ({reason}) with {_size_text(before)} of "
                    f"{_size_text(file.size)} there: run again to go on."
                )


def _append_body(url: str, out: BinaryIO) -> Iterator[None]:
    """Ask for what comes after `out`'s end and append it piece by piece."""
    headers = build_hf_headers() | {"Range": f"bytes={out.tell()}-", "Accept-Encoding": "identity"}
    with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        hf_raise_for_status(response)
        if response.status_code != 206:  # the whole file, whatever was asked for
            out.seek(0)
            out.truncate()
        for piece in response.iter_bytes():
            out.write(piece)
            yield


def _list(repo_id: str, revision: str | None) -> _Listing:
    info = HfApi().model_info(repo_id, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    files = (
        _File(file.rfilename, file.size or 0, file.blob_id, file.lfs.sha256 if file.lfs else None)
        for file in info.siblings or ()
    )
    return _Listing(str(info.sha), tuple(files))


def _choose(repo_id: str, files: Iterable[_File], dtype: str) -> list[_File]:
    """The graph of `dtype`, the files its weights are in, and what belongs beside them."""
    paths = [file.path for file in files]
    graphs = graphs_by_dtype(paths)
    if not graphs:
        raise HubError(_no_graph(repo_id, paths))
    try:
        graph = graphs[choose_dtype(graphs, dtype, repo_id)]
    except ModelFolderError as error:
        raise HubError(str(error)) from None
    weights = (f"{graph}_data", f"{graph}.data")
    return [
        file
        for file in files
        if file.path == graph
        or file.path.startswith(weights)
        or ("/" not in file.path and any(fnmatch(file.path, pattern) for pattern in COMPANIONS))
    ]


def _no_graph(repo_id: str, paths: list[str]) -> str:
    name = repo_id.split("/")[1]
    hints = [] if name.endswith("-ONNX") else [f"try onnx-community/{name}-ONNX"]
    if any(path.endswith(".safetensors") for path in paths):
        hints.append("download the checkpoint and export it with `lfm-serve export`")
    return f"{repo_id} has no ONNX graph (onnx/model*.onnx){': ' if hints else ''}{', or '.join(hints)}."


def _cached(repo_id: str, revision: str | None, dtype: str, error: HubError) -> Path:
    """The cache's folder of a model, where it is complete for `dtype`; raises `error` where there is none."""
    try:
        folder = Path(snapshot_download(repo_id, revision=revision, local_files_only=True, allow_patterns=[]))
    except (LocalEntryNotFoundError, HFValidationError):
        raise error from None
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*.onnx"))
    complete = [name for name, path in graphs_by_dtype(files).items() if _is_complete(folder / path)]
    if not complete:
        raise error
    try:
        choose_dtype(complete, dtype, f"{repo_id} in the cache")
    except ModelFolderError as lacking:
        raise HubError(f"{lacking} {error}") from error
    return folder


def _is_complete(graph: Path) -> bool:
    try:
        read_graph(graph)
    except ModelFolderError:
        return False
    return True


@contextmanager
def _explained(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turn whatever goes wrong between here and the hub into a HubError that says what to do about it."""
    hub, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise HubError(
            f"HF_HUB_OFFLINE is set, so only what is in the cache ({cache}) can be served: unset it to download "
            f"{repo_id}."
        ) from error
    except GatedRepoError as error:
        raise HubError(
            f"{repo_id} is gated: accept its terms at {hub}/{repo_id} and set HF_TOKEN to a token of that account."
        ) from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"{repo_id} is neither a folder here nor a model at {hub}; if it is private, set HF_TOKEN to a token that "
            "may read it."
        ) from error
    except RevisionNotFoundError as error:
        raise HubError(f"{repo_id} has no revision {revision!r}: name a branch, a tag or a commit.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        hint = "check HF_TOKEN" if status in (401, 403) else "try again later"
        raise HubError(f"{hub} refused {repo_id} with status {status}: {hint}.") from error
    except (TransportError, LocalEntryNotFoundError) as error:
        raise HubError(
            f"The hub at {hub} cannot be reached ({_first_line(error.__cause__ or error)}): check the network, or set "
            f"HF_ENDPOINT to a mirror; without a hub, only a folder or what is in the cache ({cache}) can be served."
        ) from error
    except HFValidationError as error:
        raise HubError(f"{repo_id} is not the name of a model on the hub: {_first_line(error)}") from error
    except OSError as error:
        raise HubError(f"{repo_id} cannot be downloaded to {cache}: {_first_line(error)}.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise HubError(f"{hub} does not answer as a Hugging Face hub does: check HF_ENDPOINT.") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _size_text(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
