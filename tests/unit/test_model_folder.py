"""Model folders of every layout are read alike, and a missing file is reported before anything is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from server.errors import ModelFolderError
from server.export import export_random
from server.runtime.model_folder import graph_dtype, open_model_folder
from tests import models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return models.build("q4", tmp_path / "model")


def refuse(folder: Path, dtype: str = "auto") -> str:
    """The message with which a folder is refused, the folder's own path written as FOLDER."""
    with pytest.raises(ModelFolderError) as caught:
        open_model_folder(folder, dtype)
    return str(caught.value).replace(str(folder), "FOLDER")


def change(path: Path, **values: Any) -> None:
    """Set values of a JSON file; None takes one away."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def with_dtypes(folder: Path, *dtypes: str) -> Path:
    """Copies of the folder's one graph under the names of other dtypes."""
    for dtype in dtypes:
        shutil.copyfile(folder / "onnx" / "model_q4.onnx", folder / "onnx" / f"model_{dtype}.onnx")
    return folder


@pytest.mark.parametrize("kind", models.KINDS)
def test_every_layout_is_read_alike(tmp_path: Path, kind: str) -> None:
    model = open_model_folder(models.build(kind, tmp_path / "model"))
    assert model.graph.is_file()
    assert (model.head_dim, model.max_model_len, model.eos_token_ids) == (16, 4096, {7})
    assert model.is_lfm2 == (kind not in models.WITHOUT_CONVOLUTIONS)
    assert model.dtypes == (model.dtype,)


@pytest.mark.parametrize(
    ("file", "dtype"),
    [
        ("onnx/model.onnx", "fp32"),
        ("model.onnx", "fp32"),
        ("onnx/model_q4.onnx", "q4"),
        ("onnx/model_q4f16.onnx", "q4f16"),
        ("onnx/model_quantized.onnx", "q8"),
        ("model_int8.onnx", "int8"),
        ("onnx/model_q4.onnx_data", None),
        ("onnx/vision_encoder_q4.onnx", None),
        ("other/model.onnx", None),
        ("model.safetensors", None),
    ],
)
def test_a_graph_s_name_says_its_dtype(file: str, dtype: str | None) -> None:
    assert graph_dtype(file) == dtype


def test_auto_takes_the_dtype_that_is_best_on_a_cpu(folder: Path) -> None:
    with_dtypes(folder, "int8", "bnb4", "fp16", "q4f16")
    (folder / "onnx" / "model_q4.onnx").rename(folder / "onnx" / "model.onnx")
    chosen = []
    for _ in range(5):
        model = open_model_folder(folder)
        chosen.append(model.dtype)
        model.graph.unlink()
    assert chosen == ["q4f16", "fp16", "fp32", "bnb4", "int8"]


def test_a_dtype_can_be_requested(folder: Path) -> None:
    model = open_model_folder(with_dtypes(folder, "fp16", "int8"), "int8")
    assert (model.dtype, model.graph) == ("int8", folder / "onnx" / "model_int8.onnx")
    assert model.dtypes == ("q4", "fp16", "int8")


def test_an_unknown_dtype_is_refused_with_the_known_ones(folder: Path) -> None:
    message = refuse(with_dtypes(folder, "fp16"), "q8")
    assert message == "FOLDER has no dtype 'q8'; it has q4, fp16."


def test_graphs_may_lie_at_the_folder_s_root(folder: Path) -> None:
    for file in (folder / "onnx").iterdir():
        file.rename(folder / file.name)
    assert open_model_folder(folder).graph == folder / "model_q4.onnx"


def test_a_graph_that_genai_config_names_may_be_called_anything(tmp_path: Path) -> None:
    folder = models.build("genai", tmp_path / "model")
    (folder / "model.onnx").rename(folder / "decoder.onnx")
    assert refuse(folder) == (
        "FOLDER has no ONNX graph: no file matches onnx/model*.onnx or model*.onnx; found decoder.onnx."
    )
    genai = json.loads((folder / "genai_config.json").read_text())
    genai["model"]["decoder"]["filename"] = "decoder.onnx"
    (folder / "genai_config.json").write_text(json.dumps(genai))
    model = open_model_folder(folder)
    assert (model.graph.name, model.dtype) == ("decoder.onnx", "fp32")


@pytest.mark.parametrize(("kind", "dtype"), [("q4", "q4"), ("q4f16", "q4f16"), ("float16-state", "fp16")])
def test_a_graph_that_genai_config_names_has_the_dtype_of_its_weights(tmp_path: Path, kind: str, dtype: str) -> None:
    folder = models.build(kind, tmp_path / "model")
    (graph,) = (folder / "onnx").glob("*.onnx")
    for file in (folder / "onnx").iterdir():
        file.rename(folder / ("model.onnx" if file == graph else file.name))
    (folder / "genai_config.json").write_text('{"model": {"decoder": {"filename": "model.onnx"}}}')
    assert open_model_folder(folder, dtype).graph.name == "model.onnx"
    assert open_model_folder(folder).dtypes == (dtype,)
    assert refuse(folder, "fp32") == f"FOLDER has no dtype 'fp32'; it has {dtype}."


@pytest.mark.parametrize(
    "genai", [{"model": None}, {"model": {"decoder": []}}, {"model": {"decoder": {"filename": 7}}}]
)
def test_a_genai_config_without_a_decoder_changes_nothing(folder: Path, genai: dict[str, Any]) -> None:
    (folder / "genai_config.json").write_text(json.dumps(genai))
    assert open_model_folder(folder).dtypes == ("q4",)


def test_genai_config_stands_in_for_config(tmp_path: Path) -> None:
    folder = models.build("genai", tmp_path / "model")
    (folder / "config.json").unlink()
    (folder / "generation_config.json").unlink()
    model = open_model_folder(folder)
    assert (model.head_dim, model.max_model_len, model.eos_token_ids) == (16, 4096, {7})
    assert model.is_lfm2
    expected = {"vocab_size": 1024, "bos_token_id": 1, "pad_token_id": 0, "num_hidden_layers": 4}
    assert {name: model.config[name] for name in expected} == expected


def test_the_tokens_that_end_an_answer(folder: Path) -> None:
    change(folder / "generation_config.json", eos_token_id=[7, 2])
    assert open_model_folder(folder).eos_token_ids == {2, 7}
    change(folder / "generation_config.json", eos_token_id=None)
    assert open_model_folder(folder).eos_token_ids == {7}
    (folder / "generation_config.json").unlink()
    assert open_model_folder(folder).eos_token_ids == {7}
    assert open_model_folder(folder).generation_config is None
    change(folder / "config.json", eos_token_id=None)
    assert open_model_folder(folder).eos_token_ids == frozenset()


@pytest.mark.parametrize(
    ("model_type", "max_position_embeddings", "expected"),
    [
        ("lfm2_moe", 128_000, 32_768),
        ("lfm2", 2048, 2048),
        ("lfm2", None, 32_768),
        ("llama", 50_000, 50_000),
        ("llama", 128_000, 65_536),
        ("llama", None, 65_536),
    ],
)
def test_the_context_is_what_config_graph_and_card_allow(
    tmp_path: Path, model_type: str, max_position_embeddings: int | None, expected: int
) -> None:
    folder = tmp_path / "model"
    export_random(models.ATTENTION_ONLY | {"max_position_embeddings": 65_536}, folder, "fp32")
    change(folder / "config.json", model_type=model_type, max_position_embeddings=max_position_embeddings)
    assert open_model_folder(folder).max_model_len == expected


def test_a_path_that_is_no_folder(folder: Path) -> None:
    assert refuse(folder / "absent") == "FOLDER does not exist."
    assert refuse(folder / "config.json") == "FOLDER is a file, not a model folder."


def test_a_folder_without_a_graph(folder: Path) -> None:
    shutil.rmtree(folder / "onnx")
    assert refuse(folder) == "FOLDER has no ONNX graph: no file matches onnx/model*.onnx or model*.onnx."


def test_a_checkpoint_must_be_exported_first(folder: Path) -> None:
    shutil.rmtree(folder / "onnx")
    (folder / "model.safetensors").touch()
    assert refuse(folder) == ("FOLDER is a checkpoint. Export it first: `lfm-serve export FOLDER NEW_FOLDER`.")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "genai_config.json"])
def test_a_config_that_cannot_be_read(folder: Path, name: str) -> None:
    (folder / name).write_text("{")
    assert refuse(folder).startswith(f"FOLDER/{name} is not JSON: ")
    (folder / name).write_text("[]")
    assert refuse(folder) == f"FOLDER/{name} does not hold a JSON object."


def test_a_folder_without_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert refuse(folder) == "FOLDER lacks config.json."


def test_a_context_that_nothing_limits(tmp_path: Path) -> None:
    folder = models.build("attention-only", tmp_path / "model")
    change(folder / "config.json", max_position_embeddings=None)
    graph = folder / "onnx" / "model.onnx"
    model = onnx.load(graph, load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            del node.input[7:]
    onnx.save(model, graph)
    assert refuse(folder) == (
        "config.json in FOLDER lacks max_position_embeddings, the maximum context length in tokens."
    )


def test_the_graph_says_how_many_tokens_there_are_or_else_the_config(folder: Path) -> None:
    change(folder / "config.json", vocab_size=None)
    assert open_model_folder(folder).vocab_size == 1024
    models.leave_vocabulary_open(folder / "onnx" / "model_q4.onnx")
    assert refuse(folder) == "config.json in FOLDER lacks vocab_size, and the graph does not specify it."
    change(folder / "config.json", vocab_size=1024)
    assert open_model_folder(folder).vocab_size == 1024


def test_a_folder_without_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert open_model_folder(folder)
    (folder / "tokenizer_config.json").unlink()
    assert refuse(folder) == (
        "FOLDER lacks a tokenizer: it has none of tokenizer.json, tokenizer_config.json, tokenizer.model."
    )


def test_weights_that_are_missing_or_cut_short(folder: Path) -> None:
    data = folder / "onnx" / "model_q4.onnx_data"
    size = data.stat().st_size
    data.write_bytes(data.read_bytes()[:1000])
    assert refuse(folder) == f"FOLDER/onnx/{data.name} is truncated: it has 1000 of {size} bytes."
    data.unlink()
    assert refuse(folder) == f"FOLDER/onnx/{data.name} is missing; it holds weights of model_q4.onnx."


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_a_graph_that_is_no_graph(folder: Path, content: bytes) -> None:
    (folder / "onnx" / "model_q4.onnx").write_bytes(content)
    assert refuse(folder) == "FOLDER/onnx/model_q4.onnx is not an ONNX graph."


def test_a_graph_that_git_lfs_has_not_fetched(folder: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1000\n"
    (folder / "onnx" / "model_q4.onnx").write_bytes(pointer)
    assert refuse(folder) == (
        "FOLDER/onnx/model_q4.onnx is not an ONNX graph, but a Git LFS pointer: run `git lfs pull`."
    )
