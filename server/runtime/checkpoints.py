"""Explains what to do with a folder that contains weights but no graph."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

EXPORTED_TYPES = ("lfm2", "lfm2_moe")
OTHER_EXPORTERS = (
    "onnxruntime-genai's builder (`python -m onnxruntime_genai.models.builder -i CHECKPOINT -o FOLDER -p int4 -e cpu`) "
    "or optimum"
)
"""The exporters for architectures that `lfm-serve export` does not support."""

ADAPTER_CONFIG = "adapter_config.json"


def is_adapter(files: Iterable[str]) -> bool:
    """Return whether `files` contain an adapter but no weights of a whole model."""
    names = [Path(file).name for file in files]
    whole = any(name.startswith(("model", "pytorch_model")) and _holds_weights(name) for name in names)
    return ADAPTER_CONFIG in names and not whole


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder contains the weights of a checkpoint or an adapter."""
    return any(_holds_weights(path.name) or path.name == ADAPTER_CONFIG for path in folder.glob("*"))


def merge_first(folder: Path) -> str:
    """Return a message that says how to merge an adapter into its model."""
    base = _read(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    model = f" for {base}" if isinstance(base, str) and base else ""
    return (
        f"{folder} is an adapter{model}, not a whole model. First merge the adapter into its model (with peft's "
        "merge_and_unload, then save_pretrained), then export the merged model."
    )


def export_first(folder: Path) -> str:
    """Return a message that says how to export a checkpoint or an adapter."""
    if is_adapter(path.name for path in folder.glob("*")):
        return merge_first(folder)
    model_type = _read(folder / "config.json").get("model_type")
    if isinstance(model_type, str) and model_type not in EXPORTED_TYPES:
        return f"{folder} is a checkpoint of a {model_type} model. Export it first with {OTHER_EXPORTERS}."
    return f"{folder} is a checkpoint. Export it first: `lfm-serve export {folder} NEW_FOLDER`."


def _holds_weights(name: str) -> bool:
    return name.endswith(".safetensors") or (name.startswith("pytorch_model") and name.endswith(".bin"))


def _read(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or {} if it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
