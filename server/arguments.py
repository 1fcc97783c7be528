"""Parses the arguments of `lfm-serve`.

Each command has a pydantic model, such as `server.settings.Settings`. Each field with a description becomes an option.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from platform import machine, python_version, system
from typing import Any, NoReturn, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from server import __version__
from server.client_settings import Bench, Chat
from server.errors import KernelsError
from server.settings import ENV_PREFIX, Cache, Export, Prepare, SamplingOverrides, Settings

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
    "path_not_directory": "no such folder",
    "path_not_file": "no such file",
    "string_type": "must be text",
    "value_error": "{error}",
}
"""Message for each pydantic error type, with placeholders for the error's context."""
EXAMPLES = {"default_sampling": '{"temperature": 0.7}', "thinking_budgets": '{"low": 256}'}


class UsageError(Exception):
    """The command line or an environment variable is invalid.

    lines: one message per fault.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class About:
    """Help text of a command."""

    summary: str
    description: str
    usage: str = "[OPTION ...]"


Command = Settings | Chat | Bench | Prepare | Export | Cache
COMMANDS: dict[str, type[Command]] = {
    "serve": Settings,
    "chat": Chat,
    "bench": Bench,
    "prepare": Prepare,
    "export": Export,
    "cache": Cache,
}
ABOUT = {
    "serve": About(
        "serve a model",
        "Serve a model. The variables in brackets also set options; the command line overrides them.",
    ),
    "chat": About(
        "chat with a model in the terminal",
        "Chat in the terminal, with the server at --url or with a server that this command starts and ends. The other "
        "options are those of that server.",
        "[--url URL] [OPTION ...]",
    ),
    "bench": About(
        "measure the speed of any OpenAI endpoint",
        "Measure throughput, TTFT and ITL of one or more servers over HTTP. Prints tables, and writes them with JSON "
        "and plots to a folder.",
        "--url URL [OPTION ...]",
    ),
    "prepare": About(
        "write a prepared copy of a model, which loads faster and lets servers share memory",
        "Optimise a model, check it against the original and store it for `lfm-serve serve`.",
    ),
}
"""Help of the commands that have no positional arguments."""
WITH_URL = {"url", "api_key", "served_model_name"}
"""Options of `chat` that may be combined with `--url`."""


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
    """The action of `--version`: print versions, CPU features and kernels, and exit."""

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


def parse(argv: Sequence[str]) -> Command:
    """Return the command in `argv`, with its options.

    Environment variables also set options of `serve`, `chat`, `prepare` and `cache`.

    Raises UsageError if an argument or a variable is invalid.
    """
    if not {*argv[:1]} & {*COMMANDS, "-h", "--help", "--version"}:
        found = f", not {argv[0]}" if argv else ""
        raise UsageError(
            f"expected a command (serve, chat, bench, prepare, export or cache){found}; see lfm-serve --help"
        )
    arguments, rest = _parser().parse_known_args(argv)
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    model = COMMANDS[given.pop("command")]
    if rest:
        raise UsageError(*_unknown(rest, [_flag(name) for name in _options(model)]))
    if model is Chat and "url" not in given and given.keys() - WITH_URL:
        given["url"] = None  # an option of the chat's own server overrides LFM_URL
    try:
        command = model(**given)
    except ValidationError as error:
        raise UsageError(*(_refusal(fault, given) for fault in error.errors())) from None
    if isinstance(command, Export) and not command.random and (idle := given.keys() & {"tokenizer", "seed"}):
        raise UsageError(*(f"{_flag(name)} requires --random" for name in sorted(idle)))
    if isinstance(command, Chat) and command.url and (idle := given.keys() - WITH_URL):
        raise UsageError(*(f"{_flag(name)} cannot be combined with --url" for name in sorted(idle)))
    return command


def _parser() -> Parser:
    parser = Parser(prog="lfm-serve", description="Serve LFM2 models in ONNX over the OpenAI API.")
    parser.add_argument("--version", action=Version, nargs=0, help="show the versions and CPU features for bug reports")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command, about in ABOUT.items():
        subparser = commands.add_parser(
            command, usage=f"lfm-serve {command} {about.usage}", help=about.summary, description=about.description
        )
        model = COMMANDS[command]
        for name in _options(model):
            has_variable = issubclass(model, BaseSettings) and name != "prune"
            _add_option(subparser, name, model.model_fields[name], f" [{_variable(name)}]" if has_variable else "")
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
    cache = commands.add_parser(
        "cache",
        usage="lfm-serve cache ls|stats|clear --cache-folder FOLDER",
        help="list, count or remove the prefixes in a cache folder",
        description="Show or clear a cache folder. No server is needed, and running servers may go on.",
    )
    actions = get_args(Cache.model_fields["action"].annotation)
    cache.add_argument("action", metavar="ls|stats|clear", choices=actions, help="list, count or remove the entries")
    for name in _options(Cache):
        _add_option(cache, name, Cache.model_fields[name], f" [{_variable(name)}]")
    return parser


def _options(model: type[BaseModel]) -> list[str]:
    """Return the fields of `model` that become options of its command."""
    if model is Chat:
        return ["url", *Chat.server_options()]
    return [name for name, field in model.model_fields.items() if field.description]


def _add_option(parser: Parser, name: str, field: FieldInfo, variable: str = "") -> None:
    """Add the option of a field to `parser`.

    The parser leaves the value as text. Pydantic converts it later.
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
    """Return one error message per unknown option.

    An argument after an unknown option may be its value, so it gets no message. If there is no unknown option, one
    message lists all `arguments`.
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
    """Return the error message for a value that pydantic rejected."""
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
