"""Defines a worker's answers about a grammar, and their JSON format."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from server.chat.constrained.grammar import Grammar
from server.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class Accepted:
    """A worker's answer if the grammar is valid and within the limits.

    size: memory of the compiled grammar in bytes.

    The other fields are those of Grammar.
    """

    param: str
    lark: str
    opens_with: str | None
    repeats: bool
    unenforced: tuple[str, ...]
    arguments: int
    size: int

    @classmethod
    def of(cls, grammar: Grammar, size: int) -> Accepted:
        """Return the answer about a grammar that takes `size` bytes once compiled."""
        return cls(
            param=grammar.param,
            lark=grammar.lark,
            opens_with=grammar.opens_with,
            repeats=grammar.repeats,
            unenforced=grammar.unenforced.messages,
            arguments=grammar.arguments,
            size=size,
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker's answer if the grammar is invalid or exceeds a limit.

    The fields are those of InvalidRequestError.
    """

    message: str
    param: str | None
    code: str | None

    @classmethod
    def of(cls, error: InvalidRequestError) -> Refused:
        """Return the answer with the fields of `error`."""
        return cls(str(error), error.param, error.code)

    @property
    def error(self) -> InvalidRequestError:
        """The error with these fields."""
        return InvalidRequestError(self.message, self.param, self.code)


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker's answer after an unexpected error.

    trace: end of the traceback, for the log.
    """

    trace: str


Answer = Accepted | Refused | Failed

_TYPES = {one.__name__: one for one in (Accepted, Refused, Failed)}


def to_json(answer: Answer) -> bytes:
    """Return `answer` as one line of JSON."""
    return json.dumps([type(answer).__name__, asdict(answer)]).encode()


def from_json(text: bytes) -> Answer:
    """Return the answer from the output of `to_json`."""
    name, fields = json.loads(text)
    if name == "Accepted":
        fields["unenforced"] = tuple(fields["unenforced"])
    answer: Answer = _TYPES[name](**fields)
    return answer
