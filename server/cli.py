"""Runs the command that the arguments of `lfm-serve` describe."""

from __future__ import annotations

import gc
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from pydantic import SecretStr

from server.arguments import UsageError, parse
from server.client_settings import Bench, Chat
from server.errors import CacheFolderError, ExportError, LfmServeError, MissingExtraError
from server.process import end_process, open_standard_streams
from server.settings import Cache, Export, Prepare, Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Codes: 0 success, 1 failure, 2 invalid usage, 130 Ctrl-C.
    `serve` never returns: it ends the process with its code.
    """
    open_standard_streams()
    try:
        command = parse(sys.argv[1:] if argv is None else argv)
        if isinstance(command, Chat):
            _chat(command)
        elif isinstance(command, Settings):
            _serve(command)
        elif isinstance(command, Bench):
            _bench(command)
        elif isinstance(command, Prepare):
            _prepare(command)
        elif isinstance(command, Cache):
            _cache(command)
        else:
            _export(command)
    except UsageError as error:
        return _fail(2, *error.lines)
    except LfmServeError as error:
        return _fail(1, str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def _serve(settings: Settings) -> NoReturn:
    signal.signal(signal.SIGTERM, lambda *_: end_process(0))  # until the server sets its own handler
    code = 1
    try:
        gc.disable()  # until `run`: collections take a tenth of the imports' time
        from server.app import run  # imported here so that --help stays fast

        run(settings)
        code = 0
    except LfmServeError as error:
        _fail(code, str(error))
    except KeyboardInterrupt:
        code = 130
    except Exception:
        traceback.print_exc()
    end_process(code)


def _chat(command: Chat) -> None:
    try:
        from server.terminal.command import chat_with_new_server, chat_with_server
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("prompt_toolkit", "rich"):
            raise
        raise MissingExtraError("lfm-serve chat", "chat") from None
    model = next(iter(command.served_model_name), None)
    if command.url:
        chat_with_server(command.url, _api_key(command.api_key, "OPENAI_API_KEY"), model)
    else:
        chat_with_new_server(command.server_variables(), _api_key(command.api_key), model)


def _bench(command: Bench) -> None:
    from server.bench.command import run  # imported here so that --help stays fast
    from server.bench.pace import Sizes
    from server.bench.parts import Work

    key, work = _api_key(command.api_key, "OPENAI_API_KEY"), Work(command.rounds, Sizes(command.long_prompt, 6))
    run(command.url, key, command.served_model_name, command.only, work, command.out, _tell)


def _api_key(option: SecretStr | None, variable: str = "") -> str | None:
    """Return the API key in `option`, else in the environment `variable`, else None."""
    return option.get_secret_value() if option else os.environ.get(variable) or None


def _prepare(command: Prepare) -> None:
    from server.loading.model_choice import find_model  # imported here so that --help stays fast
    from server.prepare import prepare, prune
    from server.runtime.graph import Precision
    from server.runtime.machine.cpu import available_threads
    from server.runtime.native.choice import Kernels, choose_kernels
    from server.runtime.prepared_copy.lookup import default_folder

    root = command.prepared_folder or default_folder()
    if command.prune:
        prune(root, _tell)
        return
    threads, precision = command.threads or available_threads(), Precision(command.precision)
    choice = choose_kernels(Kernels(command.kernels), precision)
    if choice.reason:
        _tell(f"onnxruntime's kernels are used, not the native ones: {choice.reason}")
    prepare(find_model(command, _tell), precision, threads, root, _tell, choice.native)


def _cache(command: Cache) -> None:
    from server.cache_folder import listing  # imported here so that --help stays fast

    run = {"ls": listing.show_entries, "stats": listing.show_statistics, "clear": listing.clear}[command.action]
    try:
        run(command.cache_folder, print)
    except OSError as error:
        raise CacheFolderError(f"{command.cache_folder} cannot be used: {error.strerror}.") from error


def _export(export: Export) -> None:
    from server.export import export_checkpoint, export_random  # imported here so that --help stays fast

    try:
        if export.random:
            export_random(export.source, export.out, export.dtype, export.tokenizer, export.seed, progress=_tell)
        else:
            export_checkpoint(Path(export.source), export.out, export.dtype, progress=_tell)
    except OSError as error:
        raise ExportError(str(error)) from error
    _tell(f"Wrote {export.out}; serve it with: lfm-serve serve --model {shlex.quote(str(export.out))}")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _fail(code: int, *lines: str) -> int:
    for line in lines:
        _tell(f"lfm-serve: {line}")
    return code
