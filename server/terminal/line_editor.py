"""Reads the user's input with prompt_toolkit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent


class LineEditor:
    """An editor with history.

    Enter sends the input. Alt-Enter and Ctrl-J start a new line. Tab completes commands and file names.

    commands: commands to complete, such as "/help".
    """

    def __init__(self, commands: Sequence[str]) -> None:
        self._session: PromptSession[str] = PromptSession(
            multiline=True,
            key_bindings=_key_bindings(),
            history=_history(),
            completer=CommandCompleter(commands),
            complete_while_typing=False,
            prompt_continuation="  ",
        )
        self._plain: PromptSession[str] = PromptSession(multiline=True, key_bindings=_key_bindings())

    def read(self, prompt: str = "> ") -> str:
        """Return the next input.

        Raises KeyboardInterrupt for Ctrl-C, EOFError for Ctrl-D.
        """
        return _valid(self._session.prompt(prompt))

    def read_value(self, prompt: str) -> str:
        """Return an input that the history does not keep."""
        return _valid(self._plain.prompt(prompt))


class CommandCompleter(Completer):
    """Completes commands, and paths after a command."""

    def __init__(self, commands: Sequence[str]) -> None:
        self._commands = commands
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if not text.startswith("/"):
            return
        command, separator, path = text.partition(" ")
        if separator:
            yield from self._paths.get_completions(Document(path), complete_event)
            return
        yield from (Completion(name, -len(text)) for name in self._commands if name.startswith(command))


def _valid(text: str) -> str:
    """Return `text` with question marks in place of lone surrogates.

    Python reads bytes that are not UTF-8 as lone surrogates.
    """
    return text.encode(errors="replace").decode()


def _key_bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    @bindings.add("c-j")
    def start_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


def _history() -> History:
    """Return the history of all the user's chats, which is kept in a file.

    If the file cannot be written, returns an empty history in memory.
    """
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    file = Path(state) / "lfm-serve" / "chat-history"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(file)
