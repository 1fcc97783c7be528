"""An exported model computes the same as its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import transformers
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from server.chat.template_sources import TemplateSources, read_templates
from server.export import export_checkpoint, export_random, folder
from server.export.config import Lfm2Config
from server.export.int4 import BLOCK, Int4, quantize
from server.export.lfm2_graph import rotary_tables
from tests.checkpoints import CONFIGS, fuse_experts, random_tensors, write_checkpoint
from tests.raw_session import RawSession

PROMPT = [1, *np.random.RandomState(0).randint(14, 256, 63).tolist()]


def logits_of(
    checkpoint: Path, out: Path, dtype: folder.Dtype = "fp32", store_fp16: bool = False
) -> NDArray[np.float32]:
    export_checkpoint(checkpoint, out, dtype, store_fp16)
    return RawSession(out / "onnx" / folder.GRAPH_FILES[dtype]).logits(PROMPT)


def dequantize(matrix: Int4) -> NDArray[np.float32]:
    def unpack(packed: NDArray[np.uint8], columns: int) -> NDArray[np.float32]:
        return np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)[:, :columns].astype(np.float32)

    rows, blocks = matrix.scales.shape
    steps = unpack(matrix.packed, blocks * BLOCK).reshape(rows, blocks, BLOCK)
    values = (steps - unpack(matrix.zero_points, blocks)[..., None]) * matrix.scales[..., None]
    return values.reshape(rows, -1)


@pytest.mark.parametrize("columns", [32, 96, 128])
def test_no_weight_moves_by_more_than_half_a_step_and_zero_stays_zero(columns: int) -> None:
    random = np.random.RandomState(0)
    weights = random.standard_normal((50, columns)).astype(np.float32)
    weights[0] = 0
    weights[1] = np.abs(weights[1])
    weights[2, ::3] = 0
    quantized = quantize(weights)
    back = dequantize(quantized)
    half_steps = np.repeat(quantized.scales, BLOCK, axis=1) / 2
    assert (np.abs(back - weights) <= half_steps * (1 + 1e-5)).all()
    assert (back[weights == 0] == 0).all()


@pytest.mark.parametrize("kind", CONFIGS)
def test_q4_computes_with_exactly_the_rounded_weights(tmp_path: Path, kind: str) -> None:
    config, tensors = CONFIGS[kind], random_tensors(CONFIGS[kind])
    kept = ("norm.weight", "conv.conv.weight", "gate.weight")
    rounded = {
        name: tensor if tensor.ndim == 1 or name.endswith(kept) else dequantize(quantize(tensor))
        for name, tensor in tensors.items()
    }
    q4 = logits_of(write_checkpoint(tmp_path / "a", config, tensors), tmp_path / "q4", "q4")
    fp32 = logits_of(write_checkpoint(tmp_path / "b", config, rounded), tmp_path / "fp32")
    np.testing.assert_allclose(q4, fp32, atol=1e-4)


def test_q4_logits_stay_close_to_those_of_the_whole_weights(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", CONFIGS["dense"], random_tensors(CONFIGS["dense"]))
    fp32, q4 = logits_of(checkpoint, tmp_path / "fp32"), logits_of(checkpoint, tmp_path / "q4", "q4")
    assert np.corrcoef(fp32.ravel(), q4.ravel())[0, 1] > 0.8


def test_fused_experts_sharded_files_and_single_ones_give_the_same_model(tmp_path: Path) -> None:
    config, tensors = CONFIGS["moe"], random_tensors(CONFIGS["moe"])
    plain = logits_of(write_checkpoint(tmp_path / "plain", config, tensors), tmp_path / "1")
    fused = logits_of(write_checkpoint(tmp_path / "fused", config, fuse_experts(tensors)), tmp_path / "2")
    sharded = logits_of(write_checkpoint(tmp_path / "sharded", config, tensors, shards=3), tmp_path / "3")
    np.testing.assert_array_equal(plain, fused)
    np.testing.assert_array_equal(plain, sharded)


@pytest.mark.parametrize("stale", ["same shards", "absent shards", "damaged"])
def test_a_whole_single_file_wins_over_an_index(tmp_path: Path, stale: str) -> None:
    config, tensors = CONFIGS["moe"], random_tensors(CONFIGS["moe"])
    expected = logits_of(write_checkpoint(tmp_path / "plain", config, tensors), tmp_path / "1")
    both = write_checkpoint(tmp_path / "both", config, random_tensors(config, seed=1), shards=2)
    if stale == "absent shards":
        for shard in both.glob("model-*.safetensors"):
            shard.unlink()
    elif stale == "damaged":
        (both / "model.safetensors.index.json").write_text("{")
    save_file(fuse_experts(tensors), both / "model.safetensors")
    np.testing.assert_array_equal(logits_of(both, tmp_path / "2"), expected)


@pytest.mark.parametrize("partial", ["cut off", "few tensors"])
def test_an_index_wins_over_a_single_file_that_is_not_whole(tmp_path: Path, partial: str) -> None:
    config, tensors = CONFIGS["moe"], random_tensors(CONFIGS["moe"])
    sharded = write_checkpoint(tmp_path / "sharded", config, tensors, shards=2)
    expected = logits_of(sharded, tmp_path / "1")
    single = sharded / "model.safetensors"
    save_file(dict(list(tensors.items())[:3] if partial == "few tensors" else tensors), single)
    if partial == "cut off":
        single.write_bytes(single.read_bytes()[:-8])
    np.testing.assert_array_equal(logits_of(sharded, tmp_path / "2"), expected)


def test_tie_embedding_wins_over_tie_word_embeddings_as_in_transformers() -> None:
    config = CONFIGS["dense"]
    for older, newer, tied in [(False, True, False), (True, False, True), (None, False, False), (None, None, True)]:
        names = {"tie_embedding": older, "tie_word_embeddings": newer}
        names = {name: value for name, value in names.items() if value is not None}
        assert Lfm2Config.parse(config | names).tied_head == tied
        assert transformers.Lfm2Config(**names).tie_word_embeddings == tied
        assert transformers.Lfm2MoeConfig(**names).tie_word_embeddings == tied


def test_bfloat16_weights_are_read_as_they_are(tmp_path: Path) -> None:
    config, tensors = CONFIGS["moe"], random_tensors(CONFIGS["moe"])
    rounded = {name: tensor.astype("bfloat16").astype(np.float32) for name, tensor in tensors.items()}
    halves = logits_of(write_checkpoint(tmp_path / "a", config, tensors, dtype="bfloat16"), tmp_path / "1")
    whole = logits_of(write_checkpoint(tmp_path / "b", config, rounded), tmp_path / "2")
    np.testing.assert_array_equal(halves, whole)


def test_float16_storage_halves_the_file_and_changes_nothing_if_the_weights_fit(tmp_path: Path) -> None:
    config = CONFIGS["moe"]
    tensors = {name: t.astype(np.float16).astype(np.float32) for name, t in random_tensors(config).items()}
    checkpoint = write_checkpoint(tmp_path / "a", config, tensors)
    np.testing.assert_array_equal(
        logits_of(checkpoint, tmp_path / "half", store_fp16=True), logits_of(checkpoint, tmp_path / "whole")
    )
    sizes = [(tmp_path / out / "onnx" / "model.onnx_data").stat().st_size for out in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]


@pytest.mark.parametrize("length", [1, 7])
def test_a_prompt_in_pieces_gives_the_logits_of_the_whole(tmp_path: Path, length: int) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", CONFIGS["unusual-moe"], random_tensors(CONFIGS["unusual-moe"]))
    whole = logits_of(checkpoint, tmp_path / "out")
    session = RawSession(tmp_path / "out" / "onnx" / "model.onnx")
    state, pieces = session.empty_state(), []
    for start in range(0, len(PROMPT), length):
        logits, state = session.step(PROMPT[start : start + length], state)
        pieces.append(logits)
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)


def test_weights_are_split_into_files_of_a_limited_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", CONFIGS["moe"], random_tensors(CONFIGS["moe"]))
    one = logits_of(checkpoint, tmp_path / "one")
    monkeypatch.setattr(folder, "SHARD_BYTES", 150_000)
    many = logits_of(checkpoint, tmp_path / "many")
    files = sorted(path.name for path in (tmp_path / "many" / "onnx").iterdir())
    assert files[:4] == ["model.onnx", "model.onnx_data", "model.onnx_data_1", "model.onnx_data_2"]
    assert all(path.stat().st_size <= 150_000 for path in (tmp_path / "many" / "onnx").iterdir())
    np.testing.assert_array_equal(one, many)


def test_the_tied_head_is_stored_once(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", CONFIGS["dense"], random_tensors(CONFIGS["dense"]))
    export_checkpoint(checkpoint, tmp_path / "out", "q4")
    model = onnx.load(tmp_path / "out" / "onnx" / "model_q4.onnx", load_external_data=False)
    places = {
        tensor.name: [(entry.key, entry.value) for entry in tensor.external_data]
        for tensor in model.graph.initializer
        if "embed_tokens" in tensor.name
    }
    assert places["model.embed_tokens.weight.packed"] == places["model.embed_tokens.weight.blocks"]


@pytest.mark.usefixtures("capsys")  # no terminal, so that there are lines
def test_tokenizer_template_and_settings_come_along(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", CONFIGS["dense"], random_tensors(CONFIGS["dense"]))
    (checkpoint / "chat_template.jinja").write_text("{{ messages }}")
    (checkpoint / "generation_config.json").write_text('{"temperature": 0.3}')
    said: list[str] = []
    export_checkpoint(checkpoint, tmp_path / "out", "fp32", progress=said.append)
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "{{ messages }}"
    assert (tmp_path / "out" / "generation_config.json").read_text() == '{"temperature": 0.3}'
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == CONFIGS["dense"]
    assert "layer 2 of 4" in said


def test_templates_in_every_place_come_along(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "a", CONFIGS["dense"], random_tensors(CONFIGS["dense"]))
    (checkpoint / "chat_template.json").write_text('{"chat_template": "d"}')
    (checkpoint / "additional_chat_templates").mkdir()
    (checkpoint / "additional_chat_templates" / "tool_use.jinja").write_text("t")
    export_checkpoint(checkpoint, tmp_path / "out", "fp32")
    assert read_templates(tmp_path / "out") == TemplateSources("d", "t")


def test_old_configs_are_read_like_new_ones() -> None:
    new = CONFIGS["dense"] | {"intermediate_size": 160, "rope_parameters": {"rope_theta": 10000.0}}
    old = {name: value for name, value in CONFIGS["dense"].items() if name not in ("layer_types", "intermediate_size")}
    old |= {"full_attn_idxs": [1, 3], "block_ff_dim": 160, "tie_embedding": True, "rope_theta": 10000.0}
    assert Lfm2Config.parse(old) == Lfm2Config.parse(new)
    assert Lfm2Config.parse(new).intermediate_size == 128
    assert Lfm2Config.parse(new | {"block_auto_adjust_ff_dim": False}).intermediate_size == 160


def test_rotary_tables_hold_the_angles_of_every_position() -> None:
    config = Lfm2Config.parse(CONFIGS["dense"])
    cosines, sines = rotary_tables(config)
    assert cosines.shape == sines.shape == (512, 8)
    angle = 300 * 10000.0 ** (-2 * 3 / 16)
    np.testing.assert_allclose([cosines[300, 3], sines[300, 3]], [np.cos(angle), np.sin(angle)], atol=1e-4)


def test_random_weights_depend_on_the_seed_alone_and_keep_logits_near_one(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}")
    logits = []
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        export_random(CONFIGS["moe"], tmp_path / out, "q4", tokenizer, seed)
        logits.append(RawSession(tmp_path / out / "onnx" / "model_q4.onnx").logits(PROMPT))
    np.testing.assert_array_equal(logits[0], logits[1])
    assert np.abs(logits[0] - logits[2]).max() > 0.1
    assert 0.5 < logits[0].std() < 2


def test_without_a_tokenizer_random_weights_get_the_built_in_one_with_a_text_for_every_id(tmp_path: Path) -> None:
    export_random(CONFIGS["moe"] | {"vocab_size": 2048}, tmp_path / "out", "q4")
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 2048
    assert tokenizer.decode([2047]) == "<2047>"
    assert tokenizer.token_to_id("<|im_end|>") == 7
