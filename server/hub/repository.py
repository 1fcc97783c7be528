"""Downloads models from the Hugging Face hub into huggingface_hub's cache.

The environment variables of huggingface_hub apply.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # the error of huggingface_hub's HTTP library
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

from server.errors import HubError, ModelFolderError
from server.hub.download import HubCache, HubFile, first_line, size_text
from server.runtime.checkpoints import is_adapter
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
    "additional_chat_templates/*.jinja",
    "vocab.*",
    "merges.txt",
)


def locate(model: str, revision: str | None, dtype: str, progress: Progress | None = None) -> Path:
    """Download the model named `model` and return its folder.

    Raises HubError if `model` is not `organization/name` or cannot be downloaded.
    """
    if not is_repo_id(model):
        raise HubError(f"{model} is neither a folder nor the name of a model on the hub (organization/name).")
    return download(model, revision, dtype, progress)


def is_repo_id(text: str) -> bool:
    """Return whether `text` has the form `organization/name`."""
    return REPO_ID.fullmatch(text) is not None


def download(repo_id: str, revision: str | None, dtype: str, progress: Progress | None = None) -> Path:
    """Download a model and return its folder.

    If the hub cannot be reached or refuses the request, uses the model in the cache.

    revision: branch, tag or commit. None means "main".
    progress: receives lines about the downloads; None to drop them.

    Raises HubError if the model cannot be found or downloaded.
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
    cache = HubCache(Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo_id, repo_type="model")))
    missing = [file for file in files if not cache.has(file, listing.commit)]
    if missing:
        size = cache.bytes_to_fetch(missing)
        _check_space(repo_id, size, cache.folder)
        say(f"Downloading {len(missing)} files of {repo_id}, {size_text(size)}, to {cache.folder}.")
    with _explained(repo_id, revision):
        for file in missing:
            if file.sha256 is not None:
                say(f"Downloading {file.path}, {size_text(file.size)}.")
                cache.fetch(file, hf_hub_url(repo_id, file.path, revision=listing.commit), say)
        paths = [file.path for file in files]
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=paths, tqdm_class=_NoBar))


@dataclass(frozen=True, slots=True)
class _Listing:
    commit: str
    files: tuple[HubFile, ...]


def _check_space(repo_id: str, needed: int, folder: Path) -> None:
    disk = next(parent for parent in folder.parents if parent.exists())
    if needed > (free := shutil.disk_usage(disk).free):
        raise HubError(
            f"{repo_id} needs {size_text(needed)} of disk space, but {disk} has only {size_text(free)} free. Make "
            "room, choose a smaller dtype, or set HF_HOME to a folder on another disk."
        )


class _NoBar(tqdm):
    """A progress bar that is never shown.

    huggingface_hub downloads only the small files, which need no bar.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"disable": True})  # type: ignore[no-untyped-call]


def _list(repo_id: str, revision: str | None) -> _Listing:
    info = HfApi().model_info(repo_id, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    files = (
        HubFile(file.rfilename, file.size or 0, file.blob_id, file.lfs.sha256 if file.lfs else None)
        for file in info.siblings or ()
    )
    return _Listing(str(info.sha), tuple(files))


def _choose(repo_id: str, files: Iterable[HubFile], dtype: str) -> list[HubFile]:
    """Return the files of a model: graph in `dtype`, weights, configs and tokenizer."""
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
        or any(fnmatch(file.path, pattern) and file.path.count("/") == pattern.count("/") for pattern in COMPANIONS)
    ]


def _no_graph(repo_id: str, paths: list[str]) -> str:
    name = repo_id.split("/")[1]
    hints = [] if name.endswith("-ONNX") else [f"try onnx-community/{name}-ONNX"]
    if is_adapter(paths):
        hints.append("merge the adapter into its model and export that with `lfm-serve export`")
    elif any(path.endswith(".safetensors") for path in paths):
        hints.append("download the checkpoint and export it with `lfm-serve export`")
    return f"{repo_id} has no ONNX graph (onnx/model*.onnx){': ' if hints else ''}{', or '.join(hints)}."


def _cached(repo_id: str, revision: str | None, dtype: str, error: HubError) -> Path:
    """Return the folder of a cached model.

    error: why the hub cannot be used.

    Raises `error` if the cache has no complete graph.
    Raises HubError if no complete graph in the cache has `dtype`.
    """
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
    """Convert hub errors to HubErrors that say what to do."""
    hub, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise HubError(
            f"HF_HUB_OFFLINE is set, so only models in the cache ({cache}) can be served. Unset it to download "
            f"{repo_id}."
        ) from error
    except GatedRepoError as error:
        raise HubError(
            f"{repo_id} is gated. Accept its terms at {hub}/{repo_id} and set HF_TOKEN to a token of your account."
        ) from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"{repo_id} is neither a folder nor a model at {hub}. If it is a private model, set HF_TOKEN to a token "
            "with access to the model."
        ) from error
    except RevisionNotFoundError as error:
        raise HubError(f"{repo_id} has no revision {revision!r}. Choose a branch, a tag or a commit.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        hint = "Check HF_TOKEN" if status in (401, 403) else "Try again later"
        raise HubError(f"{hub} refused {repo_id} with status {status}. {hint}.") from error
    except (httpx.HTTPError, HTTPError, LocalEntryNotFoundError) as error:
        raise HubError(
            f"The hub at {hub} cannot be reached ({first_line(error.__cause__ or error)}). Check the network, or set "
            f"HF_ENDPOINT to a mirror. Without a hub, only folders and models in the cache ({cache}) can be served."
        ) from error
    except HFValidationError as error:
        raise HubError(f"{repo_id} is not a valid name of a model on the hub: {first_line(error)}") from error
    except OSError as error:
        raise HubError(f"{repo_id} cannot be downloaded to {cache}: {first_line(error)}.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise HubError(f"{hub} does not answer like a Hugging Face hub. Check HF_ENDPOINT.") from error
