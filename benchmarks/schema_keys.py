"""Orders the properties of JSON instances as in their schemas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import jsonschema

MAX_DEPTH = 30
ITEMS = ("items", "prefixItems", "additionalItems")
OTHERS = "additionalProperties"


class Keys:
    """The properties that a schema defines, in its order."""

    def __init__(self, document: Any) -> None:
        self._document = document

    def ordered(self, instance: Any, schema: Any, depth: int = 0) -> Any:
        """Return `instance` with its keys in the order of `schema`, undefined ones last."""
        if depth > MAX_DEPTH:
            return instance
        parts = list(self._parts(schema, instance))
        if isinstance(instance, list):
            items = [value for one in parts for keyword in ITEMS for value in as_list(one.get(keyword))]
            return [self.ordered(value, {"allOf": items}, depth + 1) for value in instance]
        if not isinstance(instance, dict):
            return instance
        known = self.known(schema, instance)
        others = [value for one in parts for value in (*one.get("patternProperties", {}).values(), one.get(OTHERS))]
        names = [name for name in known if name in instance] + [name for name in instance if name not in known]
        return {name: self.ordered(instance[name], known.get(name, {"allOf": others}), depth + 1) for name in names}

    def listed(self, instance: Any, schema: Any, depth: int = 0) -> Any:
        """Return `instance` without unlisted properties.

        An object keeps them if its schema lists none, or has `additionalProperties` or `patternProperties`.
        """
        if depth > MAX_DEPTH:
            return instance
        parts = list(self._parts(schema, instance))
        if isinstance(instance, list):
            items = [value for one in parts for keyword in ITEMS for value in as_list(one.get(keyword))]
            return [self.listed(value, {"allOf": items}, depth + 1) for value in instance]
        if not isinstance(instance, dict):
            return instance
        known = self.known(schema, instance)
        is_open = any(one.keys() & {OTHERS, "patternProperties"} for one in parts)
        names = [name for name in instance if is_open or not known or name in known]
        return {name: self.listed(instance[name], known.get(name, {}), depth + 1) for name in names}

    def known(self, schema: Any, instance: Any) -> dict[str, Any]:
        """Return the schema of each property: listed ones first, then only required ones."""
        known: dict[str, list[Any]] = {}
        required: list[str] = []
        for part in self._parts(schema, instance):
            if isinstance(part.get("properties"), dict):
                for name, value in part["properties"].items():
                    known.setdefault(name, []).append(value)
            if isinstance(part.get("required"), list):
                required += part["required"]
        for name in required:
            known.setdefault(name, [])
        return {name: {"allOf": values} for name, values in known.items()}

    def _parts(self, schema: Any, instance: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the parts of `schema` in order, with alternatives that fit `instance`.

        If none fits, yields all alternatives.
        """
        if not isinstance(schema, dict) or depth > MAX_DEPTH:
            return
        own = False
        for keyword, value in schema.items():
            if keyword in ("allOf", "anyOf", "oneOf") and isinstance(value, list):
                valid = value if keyword == "allOf" else [one for one in value if self._accepts(one, instance)]
                for one in valid or value:
                    yield from self._parts(one, instance, depth + 1)
            elif keyword == "$ref" and isinstance(value, str):
                yield from self._parts(self._target(value), instance, depth + 1)
            elif not own:
                own = True
                yield schema

    def _accepts(self, schema: Any, instance: Any) -> bool:
        if not isinstance(schema, dict):
            return bool(schema)
        context = {name: self._document[name] for name in ("$schema", "$defs", "definitions") if name in self._document}
        return is_valid(instance, {**context, **schema})

    def _target(self, reference: str) -> Any:
        target = self._document
        try:
            for part in unquote(reference).removeprefix("#").split("/")[1:]:
                target = target[part.replace("~1", "/").replace("~0", "~")]
        except (LookupError, TypeError):
            return None
        return target


def as_list(value: Any) -> list[Any]:
    """Return `value` if it is a list, else `[value]`."""
    return value if isinstance(value, list) else [value]


def is_valid(instance: Any, schema: Any) -> bool:
    """Return whether jsonschema accepts `instance`."""
    try:
        return bool(jsonschema.validators.validator_for(schema)(schema).is_valid(instance))
    except Exception:  # jsonschema cannot read the schema
        return False
