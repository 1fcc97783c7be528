"""A checkpoint that cannot be exported is refused with what was found and what is needed, and no file is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from server.errors import ExportError, ModelFolderError
from server.export import export_checkpoint, export_random
from server.runtime.model_folder import open_model_folder
from tests.checkpoints import CONFIGS, Tensors, fuse_experts, random_tensors, write_checkpoint

MOE = CONFIGS["moe"]


@pytest.fixture
def tensors() -> Tensors:
    return random_tensors(MOE)


def refuse(checkpoint: Path, dtype: Any = "fp32") -> str:
    """The message with which an export fails; also checks that it leaves nothing."""
    out = checkpoint.parent / "out"
    with pytest.raises(ExportError) as caught:
        export_checkpoint(checkpoint, out, dtype)
    assert not [path for path in out.parent.iterdir() if "out" in path.name]
    return str(caught.value)


def test_a_folder_without_config(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert refuse(tmp_path / "empty") == f"{tmp_path}/empty is not a checkpoint folder: it has no config.json."
    assert refuse(tmp_path / "absent") == f"{tmp_path}/absent is not a checkpoint folder: it has no config.json."


def test_a_config_that_is_not_json(tmp_path: Path, tensors: Tensors) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", MOE, tensors)
    (checkpoint / "config.json").write_text("{")
    assert "config.json is not JSON" in refuse(checkpoint)
    (checkpoint / "config.json").write_text("[]")
    assert "config.json does not hold a JSON object" in refuse(checkpoint)


@pytest.mark.parametrize("found", ["llama", None])
def test_another_architecture(tmp_path: Path, tensors: Tensors, found: str | None) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", MOE, tensors)
    (checkpoint / "config.json").write_text(json.dumps(MOE | {"model_type": found}))
    assert refuse(checkpoint).startswith(
        f"model_type in config.json is {found!r}; only lfm2 and lfm2_moe can be exported."
    )


def test_a_config_that_lacks_a_field(tmp_path: Path, tensors: Tensors) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", MOE, tensors)
    (checkpoint / "config.json").write_text(json.dumps({k: v for k, v in MOE.items() if k != "num_experts"}))
    assert refuse(checkpoint) == "config.json lacks num_experts."


def test_rotary_positions_of_another_kind(tmp_path: Path, tensors: Tensors) -> None:
    config = MOE | {"rope_parameters": {"rope_type": "yarn", "factor": 4}}
    checkpoint = write_checkpoint(tmp_path / "a", MOE, tensors)
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert refuse(checkpoint) == "rope_type in config.json is 'yarn'; only 'default' can be exported."


def test_no_weights(tmp_path: Path, tensors: Tensors) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", MOE, tensors)
    (checkpoint / "model.safetensors").unlink()
    assert refuse(checkpoint).endswith("neither model.safetensors nor model.safetensors.index.json.")


def test_no_tokenizer(tmp_path: Path, tensors: Tensors) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", MOE, tensors)
    (checkpoint / "tokenizer.json").unlink()
    assert refuse(checkpoint) == f"{checkpoint} lacks tokenizer.json. Save the tokenizer together with the model."


def test_a_missing_shard(tmp_path: Path, tensors: Tensors) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", MOE, tensors, shards=2)
    (checkpoint / "model-00002-of-00002.safetensors").unlink()
    assert "lacks model-00002-of-00002.safetensors, which model.safetensors.index.json lists" in refuse(checkpoint)


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"weight_map": []}'])
def test_an_index_that_is_none(tmp_path: Path, tensors: Tensors, text: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", MOE, tensors, shards=2)
    (checkpoint / "model.safetensors.index.json").write_text(text)
    assert 'it must be JSON with a "weight_map" that maps tensors to files' in refuse(checkpoint)


def test_weights_that_are_quantized_already(tmp_path: Path, tensors: Tensors) -> None:
    name = "model.layers.1.self_attn.k_proj.weight"
    checkpoint = write_checkpoint(tmp_path / "a", MOE, tensors)
    save_file(tensors | {name: np.zeros((32, 64), np.int8)}, checkpoint / "model.safetensors")
    expected = f"{name} is int8 in {checkpoint}/model.safetensors; weights must be float32 or float16 or bfloat16."
    assert refuse(checkpoint) == f"{expected} Export the original checkpoint, before quantization."


@pytest.mark.parametrize(("dtype", "written"), [("float8_e4m3fn", "F8_E4M3"), ("float8_e5m2", "F8_E5M2")])
def test_a_checkpoint_in_fp8_is_refused(tmp_path: Path, tensors: Tensors, dtype: str, written: str) -> None:
    name = "model.layers.1.self_attn.k_proj.weight"
    checkpoint = write_checkpoint(tmp_path / "a", MOE, tensors)
    save_file(tensors | {name: tensors[name].astype(dtype)}, checkpoint / "model.safetensors")
    assert f"{name} is {written} in {checkpoint}/model.safetensors; weights must be float32" in refuse(checkpoint)


def test_experts_in_fp8_are_refused_in_their_fused_form(tmp_path: Path, tensors: Tensors) -> None:
    fused = {n: t.astype("float8_e4m3fn") if ".experts." in n else t for n, t in fuse_experts(tensors).items()}
    checkpoint = write_checkpoint(tmp_path / "a", MOE, tensors)
    save_file(fused, checkpoint / "model.safetensors")
    assert "is F8_E4M3 in " in refuse(checkpoint)


@pytest.mark.parametrize("with_config", [False, True])
def test_an_adapter_must_be_merged_first(tmp_path: Path, tensors: Tensors, with_config: bool) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file({"base_model.lora_A.weight": np.zeros((2, 2), np.float32)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "LiquidAI/LFM2-1.2B"}')
    if with_config:
        (folder / "config.json").write_text(json.dumps(MOE))
    message = refuse(folder)
    assert f"{folder} is an adapter for LiquidAI/LFM2-1.2B, not a whole model. First merge the adapter" in message
    with pytest.raises(ModelFolderError) as caught:
        open_model_folder(folder)
    assert str(caught.value) == message


def test_a_checkpoint_with_an_adapter_beside_it_is_exported(tmp_path: Path, tensors: Tensors) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", MOE, tensors)
    (checkpoint / "adapter_config.json").write_text("{}")
    export_checkpoint(checkpoint, tmp_path / "out", "fp32")
    assert (tmp_path / "out" / "onnx" / "model.onnx").is_file()


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "lfm2_vl"])
def test_serve_and_export_name_the_exporters_of_another_model(
    tmp_path: Path, tensors: Tensors, model_type: str
) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", MOE | {"model_type": model_type}, tensors)
    with pytest.raises(ModelFolderError) as caught:
        open_model_folder(checkpoint)
    assert f"is a checkpoint of a {model_type} model. Export it first with onnxruntime-genai's" in str(caught.value)
    assert "Export other models with onnxruntime-genai's builder" in refuse(checkpoint)


@pytest.mark.parametrize("content", ["[]", "{", '"text"'])
def test_a_damaged_adapter_config_still_tells_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "adapter_config.json").write_text(content)
    assert f"{tmp_path}/a is an adapter, not a whole model" in refuse(tmp_path / "a")


def test_missing_tensors_are_named(tmp_path: Path, tensors: Tensors) -> None:
    gone = "model.layers.1.feed_forward.experts.3.w2.weight"
    checkpoint = write_checkpoint(tmp_path / "a", MOE, {k: v for k, v in tensors.items() if k != gone})
    assert f"lacks 1 of {len(tensors)} tensors: {gone}." in refuse(checkpoint)


def test_of_many_missing_tensors_the_first_are_named(tmp_path: Path, tensors: Tensors) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", MOE, {k: v for k, v in tensors.items() if ".experts." not in k})
    message = refuse(checkpoint)
    assert f"lacks 72 of {len(tensors)} tensors: model.layers.1.feed_forward.experts.0.w1.weight, " in message
    assert message.endswith(" and 67 more.")


def test_a_tensor_of_another_shape(tmp_path: Path, tensors: Tensors) -> None:
    tensors["model.layers.1.self_attn.k_proj.weight"] = np.zeros((64, 64), np.float32)
    message = refuse(write_checkpoint(tmp_path / "a", MOE, tensors))
    assert message.startswith("model.layers.1.self_attn.k_proj.weight has shape [64, 64] in ")
    assert message.endswith("config.json requires [32, 64].")


def test_a_file_that_is_cut_off(tmp_path: Path, tensors: Tensors) -> None:
    path = write_checkpoint(tmp_path / "a", MOE, tensors) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path} cannot be read" in refuse(path.parent)


def test_a_width_that_q4_cannot_take(tmp_path: Path) -> None:
    config = MOE | {"moe_intermediate_size": 40}
    checkpoint = write_checkpoint(tmp_path / "a", config, random_tensors(config))
    expected = "moe_intermediate_size is 40, but q4 requires a multiple of 32. Export with --dtype fp32."
    assert refuse(checkpoint, "q4") == expected


def test_a_folder_that_is_taken_is_left_alone(tmp_path: Path, tensors: Tensors) -> None:
    checkpoint, out = write_checkpoint(tmp_path / "a", MOE, tensors), tmp_path / "out"
    out.mkdir()
    export_checkpoint(checkpoint, out, "fp32")
    before = sorted(path.name for path in out.rglob("*"))
    with pytest.raises(ExportError, match=r"is not an empty folder\. Choose a new folder"):
        export_checkpoint(checkpoint, out, "q4")
    assert sorted(path.name for path in out.rglob("*")) == before


def test_an_unknown_shape_for_random_weights(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"Unknown shape 'lfm3'\. Known shapes: lfm2-8b-a1b"):
        export_random("lfm3", tmp_path / "out", "q4")


def test_random_weights_with_a_folder_that_holds_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"lacks tokenizer\.json"):
        export_random(MOE, tmp_path / "out", "q4", tmp_path)
