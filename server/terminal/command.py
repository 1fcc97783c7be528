"""Runs `lfm-serve chat`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack

from server.errors import LfmServeError
from server.terminal.chat import TerminalChat
from server.terminal.endpoint import ChatEndpoint
from server.terminal.own_server import own_server
from server.terminal.screen import Screen

KEYS = "/help lists the commands; Alt-Enter starts a new line, Ctrl-C stops an answer, Ctrl-D leaves."
BUILT_IN = (
    "This is the built-in demo model: it knows next to nothing. Chat with a real model with --model, for example\n"
    "--model onnx-community/LFM2-8B-A1B-ONNX"
)


class NoTerminalError(LfmServeError):
    """The standard input or output is not a terminal."""

    def __init__(self) -> None:
        super().__init__("lfm-serve chat needs a terminal as its standard input and output.")


def chat_with_server(url: str, key: str | None, model: str | None) -> None:
    """Chat with a running server.

    url: base URL of the API, such as http://127.0.0.1:8000/v1.
    model: None for the first model that the server lists.
    """
    screen = _open_screen()
    endpoint = ChatEndpoint(url, key)
    if model is None:
        model = next(iter(endpoint.models()), None)
    if model is None:
        raise LfmServeError(f"{url} lists no models.")
    _chat(endpoint, model, screen)


def chat_with_new_server(variables: Mapping[str, str], key: str | None, model: str | None) -> None:
    """Chat with a server that is started for this chat.

    variables: the server's options as environment variables.
    model: None for the new server's model.
    """
    screen = _open_screen()
    with ExitStack() as stack:
        with screen.progress("Starting the server ...") as say:
            facts = stack.enter_context(own_server(variables, say))
        if facts["built_in"]:
            screen.note(BUILT_IN)
        _chat(ChatEndpoint(f"{facts['address']}/v1", key), model or facts["name"], screen)


def _chat(endpoint: ChatEndpoint, model: str, screen: Screen) -> None:
    screen.note(f"{model} on {endpoint.url}. {KEYS}")
    TerminalChat(endpoint, model, screen).run()


def _open_screen() -> Screen:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise NoTerminalError
    return Screen()
