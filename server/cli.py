"""The command line of `lfm-serve`: parses the arguments and runs the command.

Options are generated from the fields of `Settings`, `Prepare` and `Export`, which also validate them.
"""

from __future__ import annotations

import argparse
import difflib
import gc
import shlex
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from platform import machine, python_version, system
from typing import Any, NoReturn, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from server import __version__
from server.errors import ExportError, KernelsError, LfmServeError
from server.process import end_process, open_standard_streams
from server.settings import ENV_PREFIX, Export, Prepare, SamplingOverrides, Settings

REASONS = {
    "extra_forbidden": f"must be one of {', '.join(SamplingOverrides.model_fields)}",
    "finite_number": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    **dict.fromkeys(("int_parsing", "int_type"), "must be a whole number"),
    **dict.fromkeys(("dict_type", "json_invalid", "model_type"), "must be a JSON object such as {example}"),
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "path_not_file": "no such file",
    "string_type": "must be text",
    "value_error": "{error}",
}
"""The message for each of pydantic's error types; its placeholders are filled from the error's context."""
EXAMPLES = {"default_sampling": '{"temperature": 0.7}', "thinking_budgets": '{"low": 256}'}


class UsageError(Exception):
    """An error for an invalid command line or environment variable.

    lines: one message per fault.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


Command = Settings | Prepare | Export
COMMANDS: dict[str, type[Command]] = {"serve": Settings, "prepare": Prepare, "export": Export}


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError instead of printing its usage and exiting."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=36),
            **options,
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


class Version(argparse.Action):
    """The option `--version`: prints the versions, CPU features and kernels, and exits."""

    def __call__(self, *_: object) -> NoReturn:
        from server.runtime.machine.cpu import kernel_features
        from server.runtime.native.library import native_name

        features = ", ".join(kernel_features()) or "no known features"
        try:
            kernels = native_name()
        except KernelsError as error:
            kernels = f"onnxruntime; the native ones cannot be used: {error}"
        print(f"lfm-serve {__version__}, kernels: {kernels}")
        print(f"onnxruntime {version('onnxruntime')}, Python {python_version()}, {system()} {machine()}: {features}")
        raise SystemExit


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    The code is 0 for success, 1 for failure, 2 for invalid usage and 130 for Ctrl-C. `serve` ends the process instead.
    """
    open_standard_streams()
    try:
        command = parse(sys.argv[1:] if argv is None else argv)
        if isinstance(command, Settings):
            _serve(command)
        elif isinstance(command, Prepare):
            _prepare(command)
        else:
            _export(command)
    except UsageError as error:
        return _fail(2, *error.lines)
    except LfmServeError as error:
        return _fail(1, str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def parse(argv: Sequence[str]) -> Command:
    """Return the command that the arguments describe.

    Options of `serve` and `prepare` may also come from the environment. Raises UsageError if an argument or a variable
    is invalid, and SystemExit after `--help` and `--version`.
    """
    if not {*argv[:1]} & {*COMMANDS, "-h", "--help", "--version"}:
        found = f", not {argv[0]}" if argv else ""
        raise UsageError(f"expected a command (serve, prepare or export){found}; see lfm-serve --help")
    arguments, rest = _parser().parse_known_args(argv)
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    model = COMMANDS[given.pop("command")]
    if rest:
        raise UsageError(*_unknown(rest, [_flag(name) for name in _options(model)]))
    try:
        command = model(**given)
    except ValidationError as error:
        raise UsageError(*(_refusal(fault, given) for fault in error.errors())) from None
    if isinstance(command, Export) and not command.random and (idle := given.keys() & {"tokenizer", "seed"}):
        raise UsageError(*(f"{_flag(name)} requires --random" for name in sorted(idle)))
    return command


def _parser() -> Parser:
    parser = Parser(prog="lfm-serve", description="Serve LFM2 models in ONNX over the OpenAI API.")
    parser.add_argument("--version", action=Version, nargs=0, help="show the versions and CPU features for bug reports")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        usage="lfm-serve serve [OPTION ...]",
        help="serve a model",
        description="Serve a model. The variables in brackets also set options; the command line overrides them.",
    )
    for name in _options(Settings):
        _add_option(serve, name, Settings.model_fields[name], f" [{_variable(name)}]")
    prepare = commands.add_parser(
        "prepare",
        usage="lfm-serve prepare [OPTION ...]",
        help="write a prepared copy of a model, which loads faster and lets servers share memory",
        description="Optimise a model, check it against the original and store it for `lfm-serve serve`.",
    )
    for name in _options(Prepare):
        _add_option(prepare, name, Prepare.model_fields[name], f" [{_variable(name)}]" if name != "prune" else "")
    export = commands.add_parser(
        "export",
        usage="lfm-serve export CHECKPOINT OUT --dtype DTYPE\n"
        "       lfm-serve export --random SHAPE OUT --dtype DTYPE [--tokenizer TOKENIZER] [--seed SEED]",
        help="convert a checkpoint into an ONNX model folder",
        description="Convert an LFM2 checkpoint, dense or MoE, into an ONNX model folder.",
    )
    export.add_argument("source", metavar="CHECKPOINT", help="folder with config.json, safetensors files and tokenizer")
    export.add_argument("out", metavar="OUT", help="folder to create")
    for name in _options(Export):
        _add_option(export, name, Export.model_fields[name])
    return parser


def _options(model: type[BaseModel]) -> list[str]:
    """Return the names of the fields with a description; each becomes an option."""
    return [name for name, field in model.model_fields.items() if field.description]


def _add_option(parser: Parser, name: str, field: FieldInfo, variable: str = "") -> None:
    """Add the option of a field to `parser`.

    The parser does not convert the value. The model's validation does, as it does for environment variables.
    """
    flag, description = _flag(name), field.description
    if field.annotation is bool:
        parser.add_argument(flag, action="store_true", default=None, help=f"{description}{variable}")
        return
    default = f" (default: {field.default})" if isinstance(field.default, (int, float, str)) else ""
    parser.add_argument(
        flag,
        action="append" if get_origin(field.annotation) is tuple else "store",
        metavar=name.rpartition("_")[2].upper(),
        help=f"{description}{default}{variable}",
    )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return ENV_PREFIX + name.upper()


def _unknown(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return the error messages for arguments that the parser does not know.

    Each unknown option gets its own message. An argument after an unknown option is not reported, because it may be
    the option's value. If none of the unknown arguments is an option, a single message lists all of them.
    """
    options = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    if not options:
        return [f"unexpected argument: {' '.join(arguments)}"]
    similar = {option: difflib.get_close_matches(option, flags, n=1) for option in options}
    return [
        f"unknown option {option}" + "".join(f"; did you mean {flag}?" for flag in similar[option])
        for option in options
    ]


def _refusal(fault: Mapping[str, Any], given: Mapping[str, object]) -> str:
    """Return the message for an option or variable that pydantic rejected.

    The message names the option, its value and the reason, and the environment variable if the value came from one.
    """
    name, *inner = (str(part) for part in fault["loc"])
    flag, value = _flag(name), str(fault["input"])
    if fault["type"] == "missing":
        return f"{flag} is required"
    source = "" if name in given else f" ({_variable(name)})"
    if not value:
        return f"{flag}: must not be empty{source}"
    if fault["type"] == "extra_forbidden":
        value = inner[0]
    elif name in EXAMPLES and inner and inner[-1] != "[key]":
        value = f"{inner[0]} {value}"
    shown = value if value.isprintable() else repr(value)
    facts = {"msg": fault["msg"], "example": EXAMPLES.get(name), **fault.get("ctx", {})}
    reason = REASONS.get(fault["type"], "{msg}").format(**facts)
    return f"{flag}: {shown} is invalid: {reason}{source}"


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


def _prepare(command: Prepare) -> None:
    from server.loading import find_model  # imported here so that --help stays fast
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
