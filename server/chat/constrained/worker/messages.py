"""What a worker answers about a grammar, as JSON text."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from server.chat.constrained.grammar import Grammar
from server.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class Accepted:
    """A grammar that compiles within its limits; `size` is the memory in bytes that it takes, the rest is Grammar's."""

    param: str
    lark: str
    opens_with: str | None
    repeats: bool
    unenforced: tuple[str, ...]
    arguments: int
    size: int

    @classmethod
    def of(cls, grammar: Grammar, size: int) -> Accepted:
        """Return the message about a grammar that takes `size` bytes."""
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
    """The InvalidRequestError about a grammar."""

    message: str
    param: str | None
    code: str | None

    @classmethod
    def of(cls, error: InvalidRequestError) -> Refused:
        """Return the message of `error`."""
        return cls(str(error), error.param, error.code)

    @property
    def error(self) -> InvalidRequestError:
        """The error, to be raised."""
        return InvalidRequestError(self.message, self.param, self.code)


@dataclass(frozen=True, slots=True)
class Failed:
    """A fault of the analysis itself; `trace` is for the log."""

    trace: str


Answer = Accepted | Refused | Failed

_TYPES = {one.__name__: one for one in (Accepted, Refused, Failed)}


def to_json(answer: Answer) -> bytes:
    """Return `answer` as one line of JSON."""
    return json.dumps([type(answer).__name__, asdict(answer)]).encode()


def from_json(text: bytes) -> Answer:
    """Return the answer that `to_json` has written."""
    name, fields = json.loads(text)
    if name == "Accepted":
        fields["unenforced"] = tuple(fields["unenforced"])
    answer: Answer = _TYPES[name](**fields)
    return answer
