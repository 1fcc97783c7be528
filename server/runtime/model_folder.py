"""Reads a model folder: chooses the graph and collects facts about the model.

Supports the layouts of onnx-community, Liquid's exporter and onnxruntime-genai.
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
from server.runtime.checkpoints import export_first, is_checkpoint
from server.runtime.genai_config import decoder_file, dtype_of_content, hugging_face_names
from server.runtime.lfm2_family import Member, member_of

PREFERRED_DTYPES = ("q4", "q4f16", "fp16", "fp32")
SLOW_ON_ONNXRUNTIME = frozenset({"q4f16"})

GRAPH_FILE = re.compile(r"(onnx/)?model(_(?P<suffix>\w+))?\.onnx")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
ROTARY_INPUTS = {"GroupQueryAttention": 7, "RotaryEmbedding": 2}
"""The input index of the cosine table [positions, head_dim / 2], by operator."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked model folder.

    graph: the ONNX file to serve.
    dtype: dtype of `graph`.
    dtypes: all dtypes in the folder, in order of preference.
    config: fields of config.json, completed from genai_config.json.
    generation_config: content of generation_config.json; None if there is no such file.
    eos_token_ids: tokens that end an answer.
    member: the model's entry in the LFM2 family; None for another family.
    positions: maximum number of tokens that the model can hold, prompt and answer together.
    """

    path: Path
    graph: Path
    dtype: str
    dtypes: tuple[str, ...]
    config: Mapping[str, Any]
    generation_config: Mapping[str, Any] | None
    eos_token_ids: frozenset[int]
    member: Member | None
    positions: int
    vocab_size: int

    @property
    def is_lfm2(self) -> bool:
        """Whether the model belongs to the LFM2 family."""
        return self.member is not None

    @property
    def max_model_len(self) -> int:
        """The default maximum number of tokens of a prompt and its answer together."""
        return min(self.positions, self.member.context) if self.member else self.positions

    @property
    def head_dim(self) -> int | None:
        """The width of an attention head, or None if the config does not specify it."""
        hidden, heads = self.config.get("hidden_size"), self.config.get("num_attention_heads")
        return self.config.get("head_dim") or (hidden // heads if hidden and heads else None)


def open_model_folder(folder: Path, dtype: str = "auto") -> ModelFolder:
    """Check a model folder and choose the graph to serve.

    dtype: dtype of the graph to serve, or "auto" for the most preferred one.

    Raises ModelFolderError if the folder is invalid or lacks `dtype`.
    """
    if not folder.is_dir():
        problem = "is a file, not a model folder" if folder.exists() else "does not exist"
        raise ModelFolderError(f"{folder} {problem}.")
    genai = read_object(folder / "genai_config.json") or {}
    graphs = _graphs(folder, genai)
    dtypes = by_preference(graphs)
    chosen = choose_dtype(dtypes, dtype, str(folder))
    config = hugging_face_names(genai) | (read_object(folder / "config.json") or {})
    if not config:
        raise ModelFolderError(f"{folder} lacks config.json.")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelFolderError(f"{folder} lacks a tokenizer: it has none of {', '.join(TOKENIZER_FILES)}.")
    graph = folder / graphs[chosen]
    model = read_graph(graph)
    generation_config = read_object(folder / "generation_config.json")
    vocab_size = _vocab_size(folder, config, model)
    return ModelFolder(
        path=folder,
        graph=graph,
        dtype=chosen,
        dtypes=dtypes,
        config=config,
        generation_config=generation_config,
        eos_token_ids=_eos_token_ids(folder, generation_config, config, vocab_size),
        member=member_of(folder, config),
        positions=_positions(folder, config, _rotary_positions(model)),
        vocab_size=vocab_size,
    )


def graph_dtype(file: str) -> str | None:
    """Return a graph's dtype from its path, or None if GRAPH_FILE does not match.

    Examples: "onnx/model_q4.onnx" -> "q4", "model.onnx" -> "fp32".
    """
    match = GRAPH_FILE.fullmatch(file)
    if match is None:
        return None
    suffix = match["suffix"] or "fp32"
    return "q8" if suffix == "quantized" else suffix


def graphs_by_dtype(files: Iterable[str]) -> dict[str, str]:
    """Return the paths of the graphs among `files`, keyed by dtype.

    Graphs under `onnx/` take precedence.
    """
    graphs: dict[str, str] = {}
    for file in sorted(files):
        dtype = graph_dtype(file)
        if dtype is not None and (dtype not in graphs or file.startswith("onnx/")):
            graphs[dtype] = file
    return graphs


def by_preference(dtypes: Iterable[str]) -> tuple[str, ...]:
    """Return dtypes, the most preferred first: PREFERRED_DTYPES, then others by name."""
    there = set(dtypes)
    preferred = [dtype for dtype in PREFERRED_DTYPES if dtype in there]
    return (*preferred, *sorted(there.difference(preferred)))


def choose_dtype(available: Iterable[str], wanted: str, where: str) -> str:
    """Return `wanted` or, if it is "auto", the most preferred available dtype.

    where: folder or repository to name in the error.

    Raises ModelFolderError if `wanted` is not available.
    """
    dtypes = by_preference(available)
    if wanted == "auto" and dtypes:
        return dtypes[0]
    if wanted not in dtypes:
        raise ModelFolderError(f"{where} has no dtype {wanted!r}; it has {', '.join(dtypes) or 'none'}.")
    return wanted


def read_graph(path: Path) -> onnx.ModelProto:
    """Read a graph without loading its external data.

    Raises ModelFolderError if the graph is invalid, or external data is missing or too short.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # protobuf raises various exceptions for invalid bytes
        model = onnx.ModelProto()
    if not model.graph.node:
        pointer = path.is_file() and path.read_bytes()[:32].startswith(b"version https://git-lfs")
        hint = ", but a Git LFS pointer: run `git lfs pull`" if pointer else ""
        raise ModelFolderError(f"{path} is not an ONNX graph{hint}.")
    for name, size in _external_data(model).items():
        data = path.parent / name
        if not data.is_file():
            raise ModelFolderError(f"{data} is missing; it holds weights of {path.name}.")
        if data.stat().st_size < size:
            raise ModelFolderError(f"{data} is truncated: it has {data.stat().st_size} of {size} bytes.")
    return model


def read_object(path: Path) -> dict[str, Any] | None:
    """Read the JSON object in a file. Returns None if there is no file.

    Raises ModelFolderError if the file holds anything else.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFolderError(f"{path} is not JSON: {error}.") from None
    if not isinstance(content, dict):
        raise ModelFolderError(f"{path} does not hold a JSON object.")
    return content


def _graphs(folder: Path, genai: Mapping[str, Any]) -> dict[str, str]:
    """Return the paths of the graphs in the folder, keyed by dtype.

    Raises ModelFolderError if there is none.
    """
    files = [path.relative_to(folder).as_posix() for path in (*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx"))]
    graphs = graphs_by_dtype(files)
    named = decoder_file(genai)
    if named in files:  # this graph may have any file name
        if graphs.get("fp32") == named:
            del graphs["fp32"]
        stated = graph_dtype(named)
        graphs[dtype_of_content(folder / named) if stated in (None, "fp32") else stated] = named
    if graphs:
        return graphs
    if is_checkpoint(folder):
        raise ModelFolderError(export_first(folder))
    found = f"; found {', '.join(sorted(files))}" if files else ""
    raise ModelFolderError(f"{folder} has no ONNX graph: no file matches onnx/model*.onnx or model*.onnx{found}.")


def _eos_token_ids(
    folder: Path, generation_config: Mapping[str, Any] | None, config: Mapping[str, Any], vocab_size: int
) -> frozenset[int]:
    """Return the end-of-answer tokens from the first config file that has any.

    Raises ModelFolderError for an invalid token id.
    """
    for file, source in (("generation_config.json", generation_config or {}), ("config.json", config)):
        named = source.get("eos_token_id")
        ids = named if isinstance(named, list) else [] if named is None else [named]
        for token in ids:
            if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab_size:
                raise ModelFolderError(
                    f"{folder / file} has eos_token_id {json.dumps(named)}; the ids of this model's tokens are whole "
                    f"numbers from 0 to {vocab_size - 1}."
                )
        if ids:
            return frozenset(ids)
    return frozenset()


def _positions(folder: Path, config: Mapping[str, Any], rotary_positions: int | None) -> int:
    """Return the lower of the config's and the graph's number of positions.

    Raises ModelFolderError if neither has one.
    """
    limits = (config.get("max_position_embeddings"), rotary_positions)
    known = [limit for limit in limits if limit is not None]
    if not known:
        raise ModelFolderError(
            f"config.json in {folder} lacks max_position_embeddings, the maximum context length in tokens."
        )
    return min(known)


def _rotary_positions(model: onnx.ModelProto) -> int | None:
    """Return the number of positions in the graph's constant rotary tables.

    Returns None if the graph has no such tables.
    """
    tables = set()
    for node in model.graph.node:
        index = ROTARY_INPUTS.get(node.op_type) if node.domain == "com.microsoft" else None
        if index is not None and index < len(node.input):
            tables.add(node.input[index])
    return min((tensor.dims[0] for tensor in model.graph.initializer if tensor.name in tables), default=None)


def _vocab_size(folder: Path, config: Mapping[str, Any], model: onnx.ModelProto) -> int:
    """Return the vocabulary size from the graph, or else from the config.

    Raises ModelFolderError if neither has it.
    """
    axes = [output.type.tensor_type.shape.dim for output in model.graph.output if output.name == "logits"]
    size: int | None = next((axis[-1].dim_value for axis in axes if axis), 0) or config.get("vocab_size")
    if size is None:
        raise ModelFolderError(f"config.json in {folder} lacks vocab_size, and the graph does not specify it.")
    return size


def _external_data(model: onnx.ModelProto) -> dict[str, int]:
    """Return the minimum size in bytes of each external data file, by relative path."""
    sizes: dict[str, int] = {}
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            sizes[info.location] = max(sizes.get(info.location, 0), (info.offset or 0) + (info.length or 0))
    return sizes
