"""Where the references of a JSON schema lead. Knows of no keyword but those that name a place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urljoin

from server.chat.json_schema.keywords import UnenforceableError
from server.chat.json_schema.number_bounds import Node


class References:
    """The places of one document, by pointer, identifier or anchor."""

    def __init__(self, document: object) -> None:
        self._document = document
        self._identified: dict[str, Any] | None = None

    def lookup(self, reference: object, where: str) -> Any:
        """What `reference` points to in the document. Raises UnenforceableError where that is nothing."""
        if not isinstance(reference, str):
            raise UnenforceableError(where, "a reference is a string")
        base, _, fragment = reference.partition("#")
        target: Any = self._document if not base else self._by_identifier(base)
        fragment = unquote(fragment)
        if fragment.startswith("/"):
            try:
                for part in fragment[1:].split("/"):
                    part = part.replace("~1", "/").replace("~0", "~")
                    target = target[int(part)] if isinstance(target, list) else target[part]
            except (LookupError, TypeError, ValueError):
                target = None
        elif fragment:
            target = self._by_identifier(reference)
        if not isinstance(target, dict | bool):
            raise UnenforceableError(where, f"the reference {reference!r} leads to nothing in the schema")
        return target

    def _by_identifier(self, identifier: str) -> Any:
        if self._identified is None:
            self._identified = {}
            root = ""
            for node in _nodes(self._document):
                own = node.get("$id", node.get("id"))
                if isinstance(own, str):
                    root = root or own
                    for name in (own, urljoin(root, own)):
                        self._identified.setdefault(name.removesuffix("#"), node)
                if isinstance(anchor := node.get("$anchor"), str):
                    self._identified.setdefault(f"#{anchor}", node)
        return self._identified.get(identifier)


def _nodes(document: Any) -> Iterator[Node]:
    stack = [document]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack += reversed(node.values())
        elif isinstance(node, list):
            stack += reversed(node)
