"""Writes model folders in the onnx-community layout, with the graph in `onnx/`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

from server.errors import ExportError
from server.export.config import Lfm2Config
from server.export.external_data import SHARD_BYTES, ExternalData
from server.export.graph_builder import GraphBuilder
from server.export.int4 import BLOCK
from server.export.lfm2_graph import Lfm2Graph
from server.export.shapes import SHAPES
from server.export.sources import Checkpoint, RandomWeights, TensorSource
from server.export.tensors import tensor_shapes
from server.export.tokenizer import BUILT_IN_TOKENIZER, pad_vocabulary
from server.export.weighted_operators import Float32Layers, Int4Layers
from server.progress import Advance, show_progress
from server.runtime.checkpoints import is_adapter, merge_first

Dtype = Literal["fp32", "q4"]
Progress = Callable[[str], None]

GRAPH_FILES: dict[Dtype, str] = {"fp32": "model.onnx", "q4": "model_q4.onnx"}
COMPANION_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
TEMPLATE_FOLDER = "additional_chat_templates"


def export_checkpoint(
    checkpoint: Path, out: Path, dtype: Dtype, store_fp16: bool = False, progress: Progress | None = None
) -> None:
    """Export a Hugging Face checkpoint of an LFM2 model to an ONNX model folder.

    out: folder to write. Must be empty or not exist.
    store_fp16: whether an fp32 export stores matrices as float16.
    progress: receives a short text before each part of the model.

    Raises ExportError if the checkpoint is incomplete or unsupported, or `out` is not empty.
    """
    raw = _read_config(checkpoint)
    if not (checkpoint / "tokenizer.json").is_file():
        raise ExportError(f"{checkpoint} lacks tokenizer.json. Save the tokenizer together with the model.")
    config = Lfm2Config.parse(raw)
    source = Checkpoint(checkpoint, tensor_shapes(config))
    with _new_folder(out) as folder:
        _write_graph(config, source, folder, dtype, store_fp16, progress)
        copy_companions(checkpoint, folder, raw)


def export_random(
    shape: str | Mapping[str, Any],
    out: Path,
    dtype: Dtype,
    tokenizer: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Export a model with random weights, but the shapes and costs of a real model.

    shape: a name in SHAPES, or the content of a `config.json`.
    tokenizer: folder with the tokenizer, by default the built-in model's.

    Raises ExportError if an argument is invalid or `out` is not empty.
    """
    if isinstance(shape, str) and shape not in SHAPES:
        raise ExportError(f"Unknown shape {shape!r}. Known shapes: {', '.join(SHAPES)}.")
    raw = SHAPES[shape] if isinstance(shape, str) else shape
    config = Lfm2Config.parse(raw)
    if tokenizer is not None and not (tokenizer / "tokenizer.json").is_file():
        raise ExportError(f"{tokenizer} lacks tokenizer.json.")
    with _new_folder(out) as folder:
        _write_graph(config, RandomWeights(tensor_shapes(config), seed), folder, dtype, False, progress)
        copy_companions(tokenizer or BUILT_IN_TOKENIZER, folder, raw)
        if tokenizer is None:
            # The built-in vocabulary is smaller than the model's.
            pad_vocabulary(folder / "tokenizer.json", config.vocab_size)


def _write_graph(
    config: Lfm2Config,
    source: TensorSource,
    folder: Path,
    dtype: Dtype,
    store_fp16: bool,
    progress: Progress | None,
) -> None:
    if dtype == "q4":
        _check_blocks(config)
    path = folder / "onnx" / GRAPH_FILES[dtype]
    path.parent.mkdir()
    with ExternalData(path, SHARD_BYTES) as data:
        graph = GraphBuilder(data)
        layers = Int4Layers(graph, source) if dtype == "q4" else Float32Layers(graph, source, store_fp16)
        with _layer_progress(len(config.attention_layers), progress) as advance:
            Lfm2Graph(graph, layers, config).build(advance)
        graph.save(path, name="lfm2")


def _layer_progress(total: int, progress: Progress | None) -> AbstractContextManager[Advance]:
    def line(done: int) -> str:
        return f"layer {done + 1} of {total}" if done < total else "head"

    say = progress or (lambda _: None)
    return show_progress("Layers", total, say, line, unit="layers", interval=0, bar=progress is not None)


def _check_blocks(config: Lfm2Config) -> None:
    """Raise ExportError unless each matrix has a whole number of int4 blocks per row."""
    widths = {"hidden_size": config.hidden_size, "intermediate_size": config.intermediate_size}
    widths["num_attention_heads * head_dim"] = config.heads * config.head_dim
    if config.moe is not None:
        widths["moe_intermediate_size"] = config.moe.intermediate_size
    for name, width in widths.items():
        if width % BLOCK:
            raise ExportError(f"{name} is {width}, but q4 requires a multiple of {BLOCK}. Export with --dtype fp32.")


def copy_companions(source: Path, folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.json, and copy the tokenizer and other small files from `source`."""
    for name in COMPANION_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if (source / TEMPLATE_FOLDER).is_dir():
        shutil.copytree(source / TEMPLATE_FOLDER, folder / TEMPLATE_FOLDER)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _read_config(checkpoint: Path) -> dict[str, Any]:
    if is_adapter(path.name for path in checkpoint.glob("*")):
        raise ExportError(merge_first(checkpoint))
    path = checkpoint / "config.json"
    if not path.is_file():
        raise ExportError(f"{checkpoint} is not a checkpoint folder: it has no config.json.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"{path} is not JSON: {error}.") from None
    if not isinstance(config, dict):
        raise ExportError(f"{path} does not hold a JSON object.")
    return config


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `out` if the block succeeds.

    Raises ExportError if `out` exists and is not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} exists and is not an empty folder. Choose a new folder.")
    partial = out.absolute().with_name(f".{out.absolute().name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.replace(out)
    except BaseException:
        shutil.rmtree(partial)
        raise
