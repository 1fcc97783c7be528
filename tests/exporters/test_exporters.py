"""Tiny models from real exporters are served and, in float32, answer as transformers does.

EXPORTERS and OPTIMUM are environments with requirements/exporters.txt and requirements/optimum.txt; .ci/run makes them.
"""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.export.tokenizer import BUILT_IN_TOKENIZER
from server.runtime.model_folder import open_model_folder
from server.settings import Settings
from tests.serving import Server, serving

EXPORTERS, OPTIMUM = (os.environ.get(name, "") for name in ("EXPORTERS", "OPTIMUM"))
pytestmark = pytest.mark.skipif(not EXPORTERS or not OPTIMUM, reason="needs the environments that .ci/run makes")
NO_STOP = {"7": -100}
BUILDER = ("python", "-m", "onnxruntime_genai.models.builder", "-e", "cpu")


@dataclass(frozen=True)
class Export:
    """How a checkpoint is exported: the environment's folder, the command, and the dtype that results."""

    checkpoint: str
    environment: str
    command: tuple[str, ...]
    dtype: str

    def run(self, checkpoints: Path, out: Path) -> None:
        program, *arguments = self.command
        source = str(checkpoints / self.checkpoint)
        filled = [argument.format(source=source, out=out, cache=checkpoints / "cache") for argument in arguments]
        run([str(Path(self.environment, "bin", program)), *filled])


def builder(checkpoint: str, precision: str, dtype: str, *options: str) -> Export:
    where = ("-i", "{source}", "-o", "{out}", "-c", "{cache}", "-p", precision)
    extra = ("--extra_options", *options) if options else ()
    return Export(checkpoint, EXPORTERS, (*BUILDER, *where, *extra), dtype)


def mobius(provider: str) -> Export:
    options = ("--config", "{source}", "--ep", provider, "--runtime", "ort-genai", "{out}")
    return Export("llama", EXPORTERS, ("mobius", "build", *options), "fp32")


OPTIMUM_EXPORT = ("optimum-cli", "export", "onnx", "-m", "{source}", "--task", "text-generation-with-past", "{out}")
EXPORTS = {
    "builder-llama": builder("llama", "fp32", "fp32"),
    "builder-lfm2": builder("lfm2", "fp32", "fp32"),
    "builder-lfm2-moe": builder("lfm2-moe", "fp32", "fp32"),
    "builder-int4": builder("lfm2", "int4", "q4"),
    "builder-int4-moe": builder("lfm2-moe", "int4", "q4"),
    "builder-int8-moe": builder("lfm2-moe", "int8", "q8"),
    "builder-k-quant": builder("lfm2", "int4", "q4", "algo_config=k_quant_mixed"),
    "mobius": mobius("default"),
    "mobius-cpu": mobius("cpu"),
    "optimum": Export("llama", OPTIMUM, OPTIMUM_EXPORT, "fp32"),
}


def run(command: list[str]) -> None:
    env = os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("checkpoints")
    program = Path(__file__).with_name("make_checkpoints.py")
    run([f"{EXPORTERS}/bin/python", str(program), str(out), str(BUILT_IN_TOKENIZER)])
    return out


def complete(server: Server, prompt: list[int], **body: Any) -> dict[str, Any]:
    neutral = {"temperature": 0, "repetition_penalty": 1, "return_token_ids": True, "max_tokens": 24}
    answer = httpx.post(f"{server.url}/v1/completions", json=neutral | {"prompt": prompt} | body, timeout=60)
    assert answer.status_code == 200, answer.text
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_is_served(checkpoints: Path, tmp_path: Path, name: str) -> None:
    export, folder = EXPORTS[name], tmp_path / "model"
    export.run(checkpoints, folder)
    model = open_model_folder(folder, export.dtype)
    assert (model.dtype, model.eos_token_ids) == (export.dtype, {7})
    recorded = json.loads((checkpoints / "answers.json").read_text())[export.checkpoint]
    with serving(Settings(model=str(folder), threads=1, max_seqs=4)) as server, ThreadPoolExecutor(4) as pool:
        prompts = [case["prompt"] for case in recorded]
        choices = list(pool.map(lambda prompt: complete(server, prompt), prompts))
        if export.dtype == "fp32":
            assert [choice["token_ids"] for choice in choices] == [case["answer"] for case in recorded]
        whole = complete(server, prompts[0], logit_bias=NO_STOP)
        assert len(whole["token_ids"]) == 24
        chat = server.chat(messages=[{"role": "user", "content": "hello"}], max_tokens=3, logit_bias=NO_STOP)
        assert chat.json()["usage"]["completion_tokens"] == 3
