"""Defines normalized schemas, in which every keyword is enforced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.chat.json_schema.keywords import UnenforceableError
from server.chat.json_schema.number_bounds import Node, Schema, bounded_document
from server.chat.json_schema.unenforced import Unenforced


@dataclass(frozen=True, slots=True)
class NormalizedSchema:
    """A schema in which every keyword is enforced.

    definitions: the targets of references `#/$defs/NAME`, keyed by NAME.
    unenforced: messages about keywords that were left out.
    """

    root: Schema
    definitions: Mapping[str, Schema]
    unenforced: Unenforced = field(default_factory=Unenforced)

    def resolve(self, schema: Schema) -> Schema:
        """Return `schema` without references at its top level.

        `{"$ref": R}` becomes the target of R, and `{"allOf": [S]}` becomes S.
        Raises UnenforceableError if references form a cycle.
        """
        seen: set[str] = set()
        while isinstance(schema, dict):
            if schema.keys() == {"$ref"}:
                name = _name(schema["$ref"])
                if name in seen:
                    raise UnenforceableError("", "a reference leads back to itself")
                seen.add(name)
                schema = self.definitions[name]
            elif schema.keys() == {"allOf"} and len(schema["allOf"]) == 1:
                (schema,) = schema["allOf"]
            else:
                break
        return schema

    def document(self, schema: Schema) -> Node:
        """Return `schema` and its definitions as one document with bounded numbers.

        The bounds ensure that JSON parsers can represent all numbers in the answer.
        """
        return bounded_document(schema, self.definitions)

    def admits(self, schema: Schema, constant: bool | None) -> bool:
        """Return whether `schema` admits `constant`. None stands for null."""
        return self._admits(schema, constant, {})

    def _admits(self, schema: Schema, constant: bool | None, known: dict[str, bool]) -> bool:
        if isinstance(schema, bool):
            return schema
        kind = "null" if constant is None else "boolean"
        types = schema.get("type", kind)
        if kind not in ([types] if isinstance(types, str) else types):
            return False
        if "enum" in schema and not any(value is constant for value in schema["enum"]):
            return False
        if "const" in schema and schema["const"] is not constant:
            return False
        if "$ref" in schema:
            name = _name(schema["$ref"])
            if name not in known:
                known[name] = False  # the result if the definition refers to itself
                known[name] = self._admits(self.definitions[name], constant, known)
            if not known[name]:
                return False
        return all(self._admits(one, constant, known) for one in schema.get("allOf", ())) and (
            "anyOf" not in schema or any(self._admits(one, constant, known) for one in schema["anyOf"])
        )


def _name(reference: str) -> str:
    return reference.removeprefix("#/$defs/")
