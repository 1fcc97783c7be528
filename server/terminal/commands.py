"""The chat's commands: lines that begin with `/`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from server.errors import LfmServeError
from server.terminal.conversation import Conversation
from server.terminal.files import FileError, read_schema, read_tools, write_json
from server.terminal.screen import Screen
from server.terminal.statistics import ChatStatistics

OFF = "off"
HELP = [
    ("/system TEXT", "set the system prompt; /system shows it, /system off removes it"),
    ("/tools FILE", "offer the tools of a JSON file; you answer the calls. /tools lists them, /tools off removes them"),
    ("/schema FILE", "make answers match a JSON schema; /schema shows it, /schema off removes it"),
    ("/save FILE", "write the conversation to a JSON file, in the form of a request"),
    ("/clear", "forget the messages; the system prompt, tools and schema stay"),
    ("/stats", "show tokens and times"),
    ("/help", "show this list"),
    ("", ""),
    ("Enter", "send"),
    ("Alt-Enter, Ctrl-J", "start a new line"),
    ("Up, Down, Ctrl-R", "recall earlier messages, search them"),
    ("Tab", "complete a command or a file name"),
    ("Ctrl-C", "stop the answer; at the prompt, clear the line"),
    ("Ctrl-D", "leave"),
    ("", ""),
    ("A message that begins with /", "put a space before it"),
]


class CommandError(LfmServeError):
    """A line begins with `/` but is not a valid command."""


@dataclass(slots=True)
class Commands:
    """Carries out commands on a conversation."""

    conversation: Conversation
    statistics: ChatStatistics
    screen: Screen
    _saved: set[Path] = field(default_factory=set)

    def names(self) -> list[str]:
        return list(self._actions())

    def run(self, line: str) -> None:
        """Carry out the command in `line`.

        Raises CommandError if it is invalid, FileError if its file cannot be used.
        """
        name, _, argument = line.strip().partition(" ")
        actions = self._actions()
        if name not in actions:
            similar = difflib.get_close_matches(name, actions, n=1)
            hint = f"; did you mean {similar[0]}?" if similar else "; /help lists the commands"
            raise CommandError(f"unknown command {name}{hint}")
        actions[name](argument.strip())

    def _actions(self) -> dict[str, Callable[[str], None]]:
        return {
            "/system": self._system,
            "/tools": self._tools,
            "/schema": self._schema,
            "/save": self._save,
            "/clear": self._clear,
            "/stats": lambda _: self.screen.statistics(self.statistics),
            "/help": lambda _: self.screen.rows(HELP),
        }

    def _system(self, text: str) -> None:
        if not text:
            self.screen.note(self.conversation.system or "There is no system prompt.")
            return
        self.conversation.system = None if text == OFF else text
        self.screen.note("The system prompt is removed." if text == OFF else "The system prompt is set.")

    def _tools(self, file: str) -> None:
        if file == OFF:
            self.conversation.tools = []
            self.screen.note("The tools are removed.")
            return
        if file:
            self.conversation.tools = read_tools(_path(file))
        functions = [tool["function"] for tool in self.conversation.tools]
        if not functions:
            self.screen.note("There are no tools.")
            return
        self.screen.rows([(function["name"], str(function.get("description", ""))) for function in functions])

    def _schema(self, file: str) -> None:
        if file == OFF:
            self.conversation.schema = None
            self.screen.note("The schema is removed.")
            return
        if file:
            self.conversation.schema = read_schema(_path(file))
            self.screen.note("Answers match the schema.")
        elif self.conversation.schema is None:
            self.screen.note("There is no schema.")
        else:
            self.screen.json(self.conversation.schema)

    def _save(self, file: str) -> None:
        if not file:
            raise CommandError("/save needs the name of a file")
        path = _path(file)
        if path.exists() and path.resolve() not in self._saved:
            raise FileError(f"{path} exists; choose a new name")
        write_json(path, self.conversation.request())
        self._saved.add(path.resolve())
        self.screen.note(f"Saved to {path}.")

    def _clear(self, _: str) -> None:
        self.conversation.messages.clear()
        self.screen.note("The messages are forgotten.")


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user
        return Path(text)
