"""Reads the chat templates of a model folder and compiles them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes

from server.chat.jinja_environment import template_environment
from server.errors import ModelFolderError
from server.runtime.model_folder import read_object

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""The message fields in which templates expect thoughts, the preferred one first."""


@dataclass(frozen=True, slots=True)
class TemplateSources:
    """The text of a model's chat templates.

    default: the template for chats.
    tool_use: the template for chats with tools; None if `default` is used for them, too.
    """

    default: str
    tool_use: str | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled chat template.

    shows_tools: whether the template lists tools.
    renders_calls: whether the template renders the calls of a message.
    reasoning_field: message field that the template renders as thoughts; None if it renders no thoughts.
    """

    jinja: jinja2.Template
    shows_tools: bool
    renders_calls: bool
    reasoning_field: str | None

    @classmethod
    def compile(cls, source: str) -> Template:
        """Compile a template.

        Raises ModelFolderError if the template is not valid Jinja.
        """
        environment = template_environment()
        try:
            tree = environment.parse(source)
            jinja = environment.from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            raise ModelFolderError(f"The chat template is not valid Jinja: {error} (line {error.lineno}).") from None
        fields = {node.attr for node in tree.find_all(nodes.Getattr)}
        fields |= {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
        reasoning = next((name for name in REASONING_FIELDS if name in fields), None)
        names = {node.name for node in tree.find_all(nodes.Name)}
        return cls(jinja, "tools" in names, "tool_calls" in fields, reasoning)


def read_templates(folder: Path) -> TemplateSources | None:
    """Return a model folder's chat templates, or None if it has none.

    Raises ModelFolderError if a template is invalid, or if there are templates but none named "default".
    """
    named = (
        _unnamed_file(folder) or _in_json(folder / "tokenizer_config.json") or _in_json(folder / "chat_template.json")
    )
    named |= {path.stem: read_template(path) for path in sorted(folder.glob("additional_chat_templates/*.jinja"))}
    if not named:
        return None
    if "default" not in named:
        raise ModelFolderError(
            f"{folder} has chat templates named {', '.join(sorted(named))}, but none named default. Choose one with "
            "--chat-template FILE."
        )
    return TemplateSources(named["default"], named.get("tool_use"))


def read_template(path: Path) -> str:
    """Return the chat template in a file.

    Raises ModelFolderError if the file is empty or not UTF-8.
    """
    try:
        return _not_empty(path.read_text(encoding="utf-8"), f"The chat template {path}")
    except UnicodeDecodeError as error:
        raise ModelFolderError(f"The chat template {path} is not UTF-8: {error}.") from None


def _unnamed_file(folder: Path) -> dict[str, str]:
    path = folder / "chat_template.jinja"
    return {"default": read_template(path)} if path.is_file() else {}


def _in_json(path: Path) -> dict[str, str]:
    """Return the templates in a JSON file by name. An unnamed one becomes "default"."""
    value = (read_object(path) or {}).get("chat_template")
    where = f"chat_template in {path}"
    if value is None:
        return {}
    if isinstance(value, str):
        return {"default": _not_empty(value, where)}
    entries = list(value.items()) if isinstance(value, dict) else [_entry(entry) for entry in _list(value, where)]
    for name, template in entries:
        if not isinstance(name, str) or not isinstance(template, str):
            raise ModelFolderError(f'{where} has an invalid entry: each needs a "name" and a "template", both strings.')
    return {name: _not_empty(template, f"{name!r} of {where}") for name, template in entries}


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ModelFolderError(f"{where} must be a template or a list of named templates.")
    return value


def _entry(entry: Any) -> tuple[Any, Any]:
    return (entry.get("name"), entry.get("template")) if isinstance(entry, Mapping) else (None, None)


def _not_empty(template: str, where: str) -> str:
    if not template.strip():
        raise ModelFolderError(f"{where} is empty. Give a template with --chat-template FILE.")
    return template
