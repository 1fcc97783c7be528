"""Reads and writes the files that the user names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from server.errors import LfmServeError


class FileError(LfmServeError):
    """A file cannot be read or written, or has invalid content."""


def read_tools(path: Path) -> list[dict[str, Any]]:
    """Return the tool definitions in a file.

    The file has a list of tools in OpenAI's form, or {"tools": [...]}.
    """
    value = _read_json(path)
    tools = value.get("tools") if isinstance(value, dict) else value
    if not isinstance(tools, list) or not tools:
        raise FileError(f"{path} must contain a non-empty list of tools, or an object that has this list in `tools`")
    for number, tool in enumerate(tools, 1):
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise FileError(
                f'{path}: tool {number} must have the form {{"type": "function", "function": {{"name": ...}}}}'
            )
    return tools


def read_schema(path: Path) -> dict[str, Any]:
    """Return the JSON schema in a file."""
    value = _read_json(path)
    if not isinstance(value, dict):
        raise FileError(f"{path} must contain a JSON schema, which is a JSON object")
    return value


def write_json(path: Path, value: Any) -> None:
    try:
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror}") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is not JSON: {error}") from error
