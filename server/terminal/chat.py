"""The chat's loop: reads a line, then runs a command or shows an answer."""

from __future__ import annotations

import asyncio
from typing import Any

from server.errors import LfmServeError
from server.terminal.answer import Answer, Call
from server.terminal.commands import Commands
from server.terminal.conversation import Conversation, Message
from server.terminal.endpoint import ChatEndpoint, EndpointError
from server.terminal.line_editor import LineEditor
from server.terminal.screen import Screen
from server.terminal.statistics import ChatStatistics

TAKEN_BACK = "Your message is not part of the conversation; the Up key recalls it."


class TerminalChat:
    """A chat with one model of an endpoint."""

    def __init__(self, endpoint: ChatEndpoint, model: str, screen: Screen) -> None:
        self._endpoint = endpoint
        self._screen = screen
        self._conversation = Conversation(model)
        self._statistics = ChatStatistics()
        self._commands = Commands(self._conversation, self._statistics, screen)
        self._editor = LineEditor(self._commands.names())

    def run(self) -> None:
        """Chat until the user leaves with Ctrl-D."""
        while True:
            try:
                self._handle(self._editor.read())
            except KeyboardInterrupt:
                self._screen.note("Ctrl-D leaves.")
            except EOFError:
                return
            except LfmServeError as error:
                self._screen.error(str(error))

    def _handle(self, line: str) -> None:
        """Run a command or send a message.

        Raises CommandError if a command is invalid, FileError if its file cannot be used.
        """
        if line.startswith("/"):
            self._commands.run(line)
        elif line.strip():
            self._take_turn(line.strip())

    def _take_turn(self, text: str) -> None:
        """Send the user's message and show the answer.

        If the model answers, the turn is added to the conversation.
        """
        turn: list[Message] = [{"role": "user", "content": text}]
        try:
            answered = self._complete(turn)
        except EndpointError as error:
            self._screen.error(str(error))
            answered = False
        if answered:
            self._conversation.messages += turn
        else:
            self._screen.note(TAKEN_BACK)

    def _complete(self, turn: list[Message]) -> bool:
        """Append answers and results of calls to `turn`, up to an answer without calls.

        The user enters the results. Text received before a Ctrl-C counts as an answer without calls.

        Returns False if the user gives up before such an answer.
        """
        while True:
            answer = Answer()
            if self._show(answer, turn):
                self._screen.note("Stopped.")
                answer.calls.clear()
                if not answer.text:
                    return False
            turn.append(answer.message())
            if not answer.calls:
                return True
            for call in answer.calls:
                result = self._result(call)
                if result is None:
                    return False
                turn.append({"role": "tool", "tool_call_id": call.id, "content": result})

    def _show(self, answer: Answer, turn: list[Message]) -> bool:
        """Show an answer while it arrives, and return whether Ctrl-C stopped it.

        Raises EndpointError if the server does not send the whole answer.
        """
        stopped = False
        try:
            asyncio.run(self._receive(answer, self._conversation.request(turn)))
        except KeyboardInterrupt:
            stopped = True
        finally:
            self._screen.end_of_answer(answer)
        self._statistics.add(answer)
        return stopped

    async def _receive(self, answer: Answer, body: dict[str, Any]) -> None:
        async with self._endpoint.events(body) as events:
            async for event in events:
                for piece in answer.take(event):
                    self._screen.piece(piece)
        if answer.finish_reason is None:
            raise EndpointError("The server broke off its answer.")

    def _result(self, call: Call) -> str | None:
        """Return the result that the user enters for a call; None if the user gives up."""
        try:
            return self._editor.read_value(f"result of {call.name}: ")
        except (KeyboardInterrupt, EOFError):
            return None
