"""Exported weights answer as transformers does: logits within 1e-4, greedy text token by token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from server.export import export_checkpoint
from tests.checkpoints import CONFIGS, random_tensors, write_checkpoint
from tests.golden.golden_file import STRIDE, Golden, load
from tests.raw_session import RawSession

HERE = Path(__file__).parent
BUILT_IN = HERE.parents[1] / "server" / "demo" / "onnx" / "model.onnx"
EOS = 7


def check(session: RawSession, golden: Golden) -> None:
    logits = session.logits(golden.prompt + golden.answer[:-1])
    chosen_by = logits[[len(golden.prompt) - 1, -1], ::STRIDE]
    np.testing.assert_allclose(chosen_by, golden.logits, rtol=0, atol=1e-4)
    assert session.greedy(golden.prompt, len(golden.answer), EOS) == golden.answer


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_random_checkpoint_answers_as_in_transformers(tmp_path: Path, kind: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", CONFIGS[kind], random_tensors(CONFIGS[kind]))
    export_checkpoint(checkpoint, tmp_path / "out", "fp32")
    session = RawSession(tmp_path / "out" / "onnx" / "model.onnx")
    for golden in load(HERE / f"random-{kind}.npz"):
        check(session, golden)


def test_the_built_in_model_answers_fifty_prompts_as_in_transformers() -> None:
    session, goldens = RawSession(BUILT_IN), load(HERE / "demo.npz")
    assert len(goldens) == 50
    for golden in goldens:
        check(session, golden)
