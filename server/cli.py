"""The command line: `lfm-serve serve`, `prepare` and `export`. Knows how to ask and refuse, not how to do any of it.

Options are generated from the fields of `Settings`, `Prepare` and `Export`, which also say what is allowed.
"""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from platform import machine, python_version, system
from typing import Any, Literal, NoReturn, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from server import __version__
from server.errors import ExportError, LfmServeError
from server.settings import ENV_PREFIX, ModelSettings, SamplingOverrides, Settings

REASONS = {
    "extra_forbidden": f"known are {', '.join(SamplingOverrides.model_fields)}",
    "finite_number": "a number is needed",
    "float_type": "a number is needed",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "int_parsing": "a whole number is needed",
    "int_type": "a whole number is needed",
    "json_invalid": 'a JSON object such as {{"temperature": 0.7}} is needed',
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
    "model_type": 'a JSON object such as {{"temperature": 0.7}} is needed',
    "path_not_file": "there is no such file",
    "string_type": "text is needed",
    "value_error": "{error}",
}
"""Pydantic's error types in our words, with the places for their facts."""


class UsageError(Exception):
    """The command line or a variable asks for what there is not; one line for each fault."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Prepare(ModelSettings):
    """What `lfm-serve prepare` was asked for."""

    prune: bool = Field(False, description="instead, remove copies that are no use any more")


class Export(BaseModel):
    """What `lfm-serve export` was asked for; `source` is a checkpoint's folder, or with `random` a shape's name."""

    model_config = ConfigDict(frozen=True)

    source: str
    out: Path
    random: bool = Field(False, description="random weights: in place of CHECKPOINT a shape, such as lfm2-8b-a1b")
    dtype: Literal["fp32", "q4"] = Field(description="what to store: fp32, or q4 (4 bits), the fastest on a CPU")
    tokenizer: Path | None = Field(
        None, description="with --random: a folder whose tokenizer to use (default: the built-in model's)"
    )
    seed: int = Field(0, ge=0, description="with --random: another seed, other weights")


Command = Settings | Prepare | Export
COMMANDS: dict[str, type[Command]] = {"serve": Settings, "prepare": Prepare, "export": Export}


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse prints its usage and exits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=36),
            **options,
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


class Version(argparse.Action):
    """Prints the versions and the CPU features that decide how fast a model runs, and exits."""

    def __call__(self, *_: object) -> NoReturn:
        from server.runtime.cpu import kernel_features

        features = ", ".join(kernel_features()) or "no known features"
        print(f"lfm-serve {__version__}")
        print(f"onnxruntime {version('onnxruntime')}, Python {python_version()}, {system()} {machine()}: {features}")
        raise SystemExit


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 where it failed, 2 where it was asked wrongly, 130 on Ctrl-C."""
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
    """What the arguments, and for `serve` and `prepare` the environment, ask for.

    Raises UsageError where they cannot be followed, SystemExit after `--help` and `--version`.
    """
    if not {*argv[:1]} & {*COMMANDS, "-h", "--help", "--version"}:
        found = f", not {argv[0]}" if argv else ""
        raise UsageError(f"a command comes first, serve, prepare or export{found}; lfm-serve --help says more")
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
        raise UsageError(*(f"{_flag(name)} goes with --random only" for name in sorted(idle)))
    return command


def _parser() -> Parser:
    parser = Parser(prog="lfm-serve", description="LFM2 models in ONNX over the OpenAI API.")
    parser.add_argument("--version", action=Version, nargs=0, help="show the versions and CPU features for bug reports")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        usage="lfm-serve serve [OPTION ...]",
        help="serve a model",
        description="Serve a model. Each option is the environment variable behind it as well; the option wins.",
    )
    for name in _options(Settings):
        _add_option(serve, name, Settings.model_fields[name], f" [{_variable(name)}]")
    prepare = commands.add_parser(
        "prepare",
        usage="lfm-serve prepare [OPTION ...]",
        help="make a copy of a model that starts faster and is shared by sessions and processes",
        description="Optimise a model once, check it against the original and keep it on disk for `lfm-serve serve`.",
    )
    for name in _options(Prepare):
        _add_option(prepare, name, Prepare.model_fields[name], f" [{_variable(name)}]" if name != "prune" else "")
    export = commands.add_parser(
        "export",
        usage="lfm-serve export CHECKPOINT OUT --dtype DTYPE\n"
        "       lfm-serve export --random SHAPE OUT --dtype DTYPE [--tokenizer TOKENIZER] [--seed SEED]",
        help="make an ONNX model folder out of a checkpoint",
        description="Make an ONNX model folder out of an LFM2 checkpoint, dense or MoE.",
    )
    export.add_argument("source", metavar="CHECKPOINT", help="a folder with config.json, safetensors and tokenizer")
    export.add_argument("out", metavar="OUT", help="the folder to make")
    for name in _options(Export):
        _add_option(export, name, Export.model_fields[name])
    return parser


def _options(model: type[BaseModel]) -> list[str]:
    """The fields that are options: those that are described."""
    return [name for name, field in model.model_fields.items() if field.description]


def _add_option(parser: Parser, name: str, field: FieldInfo, variable: str = "") -> None:
    """Values stay text here: the field says what they may be, wherever they come from."""
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
    """A line for each unknown option; what follows one may be its value, so it counts only where there is none."""
    options = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    if not options:
        return [f"unexpected argument: {' '.join(arguments)}"]
    similar = {option: difflib.get_close_matches(option, flags, n=1) for option in options}
    return [
        f"unknown option {option}" + "".join(f"; did you mean {flag}?" for flag in similar[option])
        for option in options
    ]


def _refusal(fault: Mapping[str, Any], given: Mapping[str, object]) -> str:
    """A line about one of pydantic's errors: which option has which value, from where, and what is allowed."""
    name, *inner = (str(part) for part in fault["loc"])
    flag, value = _flag(name), str(fault["input"])
    if fault["type"] == "missing":
        return f"{flag} is needed"
    source = "" if name in given else f" ({_variable(name)})"
    if not value:
        return f"{flag}: an empty value is not allowed{source}"
    if fault["type"] == "extra_forbidden":
        value = inner[0]
    elif name == "default_sampling" and inner:
        value = f"{inner[0]} {value}"
    shown = value if value.isprintable() else repr(value)
    reason = REASONS.get(fault["type"], "{msg}").format(msg=fault["msg"], **fault.get("ctx", {}))
    return f"{flag}: {shown} is not allowed: {reason}{source}"


def _serve(settings: Settings) -> None:
    from server.app import run  # here, so that --help need not wait for it

    run(settings)


def _prepare(command: Prepare) -> None:
    from server.loading import find_model  # here, as below
    from server.prepare import prepare, prune
    from server.runtime.cpu import available_threads
    from server.runtime.graph import Precision
    from server.runtime.prepared import default_folder

    root = command.prepared_folder or default_folder()
    if command.prune:
        prune(root, _tell)
        return
    threads = command.threads or available_threads()
    prepare(find_model(command, _tell), Precision(command.precision), threads, root, _tell)


def _export(export: Export) -> None:
    from server.export import export_checkpoint, export_random  # here, so that --help need not wait for onnx

    try:
        if export.random:
            export_random(export.source, export.out, export.dtype, export.tokenizer, export.seed, progress=_tell)
        else:
            export_checkpoint(Path(export.source), export.out, export.dtype, progress=_tell)
    except OSError as error:
        raise ExportError(str(error)) from error
    _tell(f"{export.out} is written; serve it with: lfm-serve serve --model {shlex.quote(str(export.out))}")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _fail(code: int, *lines: str) -> int:
    for line in lines:
        _tell(f"lfm-serve: {line}")
    return code
