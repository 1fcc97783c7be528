"""A model folder on disk: which graph is served, and what the files beside it say about the model.

Reads the layouts of onnx-community, of Liquid's exporter and of onnxruntime-genai. Knows no tokens, opens no session.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from server.errors import ModelFolderError

PREFERRED_DTYPES = ("q4", "q4f16", "fp16", "fp32")
SLOW_ON_CPU = frozenset({"q4f16"})
LFM2_CONTEXT = 32_768
"""What LFM2's model cards promise in tokens; their configs say more, and LFM2.5 may be asked for it."""

GRAPH_FILE = re.compile(r"(onnx/)?model(_(?P<suffix>\w+))?\.onnx")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
ROTARY_INPUTS = {"GroupQueryAttention": 7, "RotaryEmbedding": 2}
"""Which input of these com.microsoft operators is the table of cosines [positions, half of head_dim]."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that was looked through and lacks nothing.

    `dtype` is that of `graph`, `dtypes` are all there are, the preferred ones first. `config` is config.json over
    what genai_config.json says, both by Hugging Face's names; `generation_config` is None where there is none.
    `positions` is how many tokens the model has positions for, prompt and answer together; `vocab_size` how many
    tokens it tells apart.
    """

    path: Path
    graph: Path
    dtype: str
    dtypes: tuple[str, ...]
    config: Mapping[str, Any]
    generation_config: Mapping[str, Any] | None
    positions: int
    vocab_size: int

    @property
    def is_lfm2(self) -> bool:
        """Whether the model is of the LFM2 family: dense or MoE, 2 or 2.5."""
        return str(self.config.get("model_type")).startswith("lfm2")

    @property
    def max_model_len(self) -> int:
        """How long a prompt and its answer are unless told otherwise, in tokens."""
        return min(self.positions, LFM2_CONTEXT) if self.is_lfm2 else self.positions

    @property
    def head_dim(self) -> int | None:
        """Width of an attention head, for graphs that leave it symbolic; None where no config says it."""
        hidden, heads = self.config.get("hidden_size"), self.config.get("num_attention_heads")
        return self.config.get("head_dim") or (hidden // heads if hidden and heads else None)

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The tokens that end an answer; empty where no config names one."""
        for source in (self.generation_config or {}, self.config):
            if (ids := source.get("eos_token_id")) is not None:
                return frozenset(ids if isinstance(ids, list) else [ids])
        return frozenset()


def open_model_folder(folder: Path, dtype: str = "auto") -> ModelFolder:
    """Look through `folder` and choose the graph of `dtype` ("auto" is the first of PREFERRED_DTYPES there is).

    Raises ModelFolderError for what is no model folder, and for files that are missing, cut short or unreadable.
    """
    if not folder.is_dir():
        problem = "is a file, not a model folder" if folder.exists() else "does not exist"
        raise ModelFolderError(f"{folder} {problem}.")
    genai = read_object(folder / "genai_config.json") or {}
    graphs = _graphs(folder, genai)
    dtypes = by_preference(graphs)
    chosen = choose_dtype(dtypes, dtype, str(folder))
    config = _hugging_face_names(genai) | (read_object(folder / "config.json") or {})
    if not config:
        raise ModelFolderError(f"{folder} lacks config.json.")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelFolderError(f"{folder} lacks a tokenizer: none of {', '.join(TOKENIZER_FILES)} is there.")
    graph = folder / graphs[chosen]
    model = read_graph(graph)
    return ModelFolder(
        path=folder,
        graph=graph,
        dtype=chosen,
        dtypes=dtypes,
        config=config,
        generation_config=read_object(folder / "generation_config.json"),
        positions=_positions(folder, config, _rotary_positions(model)),
        vocab_size=_vocab_size(folder, config, model),
    )


def graph_dtype(file: str) -> str | None:
    """The dtype of a graph by its path in the folder: "onnx/model_q4.onnx" is q4. None for what is no such graph."""
    match = GRAPH_FILE.fullmatch(file)
    if match is None:
        return None
    suffix = match["suffix"] or "fp32"
    return "q8" if suffix == "quantized" else suffix


def graphs_by_dtype(files: Iterable[str]) -> dict[str, str]:
    """The graphs among `files` (paths in the folder); where a dtype is there twice, the one under `onnx/`."""
    graphs: dict[str, str] = {}
    for file in sorted(files):
        dtype = graph_dtype(file)
        if dtype is not None and (dtype not in graphs or file.startswith("onnx/")):
            graphs[dtype] = file
    return graphs


def by_preference(dtypes: Iterable[str]) -> tuple[str, ...]:
    """PREFERRED_DTYPES first, in their order, then the others by name."""
    there = set(dtypes)
    preferred = [dtype for dtype in PREFERRED_DTYPES if dtype in there]
    return (*preferred, *sorted(there.difference(preferred)))


def choose_dtype(available: Iterable[str], wanted: str, where: str) -> str:
    """`wanted`, or for "auto" the most preferred; raises ModelFolderError where `where` has no such dtype."""
    dtypes = by_preference(available)
    if wanted == "auto" and dtypes:
        return dtypes[0]
    if wanted not in dtypes:
        raise ModelFolderError(f"{where} has no dtype {wanted!r}; it has {', '.join(dtypes) or 'none'}.")
    return wanted


def read_graph(path: Path) -> onnx.ModelProto:
    """Read a graph without its external data; raises ModelFolderError where either is missing or damaged."""
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # whatever protobuf raises for bytes it cannot read
        model = onnx.ModelProto()
    if not model.graph.node:
        pointer = path.is_file() and path.read_bytes()[:32].startswith(b"version https://git-lfs")
        hint = " but a Git LFS pointer: run `git lfs pull`" if pointer else ""
        raise ModelFolderError(f"{path} is no ONNX graph{hint}.")
    for name, size in _external_data(model).items():
        data = path.parent / name
        if not data.is_file():
            raise ModelFolderError(f"{data} is missing: {path.name} keeps weights in it.")
        if data.stat().st_size < size:
            raise ModelFolderError(f"{data} is cut short: {data.stat().st_size} of {size} bytes are there.")
    return model


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON file's object, None where there is no such file; raises ModelFolderError where it holds none."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFolderError(f"{path} is not JSON: {error}.") from None
    if not isinstance(content, dict):
        raise ModelFolderError(f"{path} holds no JSON object.")
    return content


def _graphs(folder: Path, genai: Mapping[str, Any]) -> dict[str, str]:
    """The graphs by dtype, as paths in the folder; that of genai_config.json may have any name."""
    files = [path.relative_to(folder).as_posix() for path in (*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx"))]
    graphs = graphs_by_dtype(files)
    named = genai.get("model", {}).get("decoder", {}).get("filename")
    if named in files:
        graphs[graph_dtype(named) or "fp32"] = named
    if graphs:
        return graphs
    if any(folder.glob("*.safetensors")):
        raise ModelFolderError(
            f"{folder} is a checkpoint: export it first with `lfm-serve export {folder} NEW_FOLDER`."
        )
    found = f" among {', '.join(sorted(files))}" if files else ""
    raise ModelFolderError(f"{folder} has no ONNX graph: there is no onnx/model*.onnx and no model*.onnx{found}.")


def _hugging_face_names(genai: Mapping[str, Any]) -> dict[str, Any]:
    """What a genai_config.json says that a config.json says too, under the latter's names."""
    model = genai.get("model", {})
    decoder = model.get("decoder", {})
    renamed = {
        "model_type": model.get("type"),
        "max_position_embeddings": model.get("context_length"),
        "head_dim": decoder.get("head_size"),
    }
    same = {name: model.get(name) for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    sizes = ("hidden_size", "num_attention_heads", "num_hidden_layers", "num_key_value_heads")
    found = renamed | same | {name: decoder.get(name) for name in sizes}
    return {name: value for name, value in found.items() if value is not None}


def _positions(folder: Path, config: Mapping[str, Any], rotary_positions: int | None) -> int:
    limits = (config.get("max_position_embeddings"), rotary_positions)
    known = [limit for limit in limits if limit is not None]
    if not known:
        raise ModelFolderError(f"config.json in {folder} lacks max_position_embeddings, the longest context in tokens.")
    return min(known)


def _rotary_positions(model: onnx.ModelProto) -> int | None:
    """How many positions the graph's rotary tables have; None where they are not constants."""
    tables = set()
    for node in model.graph.node:
        index = ROTARY_INPUTS.get(node.op_type) if node.domain == "com.microsoft" else None
        if index is not None and index < len(node.input):
            tables.add(node.input[index])
    return min((tensor.dims[0] for tensor in model.graph.initializer if tensor.name in tables), default=None)


def _vocab_size(folder: Path, config: Mapping[str, Any], model: onnx.ModelProto) -> int:
    """The last axis of the logits; where the graph does not say it, what the config says."""
    axes = [output.type.tensor_type.shape.dim for output in model.graph.output if output.name == "logits"]
    size: int | None = next((axis[-1].dim_value for axis in axes if axis), 0) or config.get("vocab_size")
    if size is None:
        raise ModelFolderError(f"config.json in {folder} lacks vocab_size, and the graph does not say it.")
    return size


def _external_data(model: onnx.ModelProto) -> dict[str, int]:
    """The files that the graph's weights are in, relative to it, and how many bytes of each are used."""
    sizes: dict[str, int] = {}
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            sizes[info.location] = max(sizes.get(info.location, 0), (info.offset or 0) + (info.length or 0))
    return sizes
