"""Resolves the references of a JSON schema within its own document.

A reference is a JSON pointer such as `#/$defs/a`, or the `$id`, `id` or `$anchor` of a subschema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urljoin

from server.chat.json_schema.keywords import UnenforceableError
from server.chat.json_schema.number_bounds import Node

_OLD_DRAFT = re.compile(r"http://json-schema\.org/draft-0[3467]/")


class References:
    """The schemas of one document, by JSON pointer, identifier or anchor."""

    def __init__(self, document: object) -> None:
        self._document = document
        self._identified: dict[str, Any] | None = None
        dialect = document.get("$schema", "") if isinstance(document, dict) else ""
        self._ignores_siblings = isinstance(dialect, str) and bool(_OLD_DRAFT.match(dialect))

    def effective(self, node: Node) -> Node:
        """Return `node`, without siblings of `$ref` if the schema's draft ignores them."""
        return {"$ref": node["$ref"]} if self._ignores_siblings and "$ref" in node else node

    def lookup(self, reference: object, where: str) -> Any:
        """Return the schema that `reference` points to.

        where: path of the reference, for errors.

        Raises UnenforceableError if `reference` does not point to a schema in the document.
        """
        if not isinstance(reference, str):
            raise UnenforceableError(where, "a reference must be a string")
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
            raise UnenforceableError(
                where, f"the reference {reference!r} does not point to a schema in the same document"
            )
        return target

    def _by_identifier(self, identifier: str) -> Any:
        """Return the first schema with this `$id`, `id` or `#anchor`; None if not found."""
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
    """Yield all objects in `document`, in document order."""
    stack = [document]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack += reversed(node.values())
        elif isinstance(node, list):
            stack += reversed(node)
