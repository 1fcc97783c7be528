"""Writes tiny random checkpoints and what transformers generates from them; runs where torch is installed.

Usage: make_checkpoints.py OUT TOKENIZER. Each folder OUT/NAME is a checkpoint, and OUT/answers.json holds for each
name the prompts with their greedy continuations, in float32.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

PROMPTS = [[1, 30, 40, 50], [1, *range(100, 133)], [1, 900, 14, 900, 14, 77, 300]]
NEW_TOKENS = 24

SIZES: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 7,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
LAYERS = {"num_hidden_layers": 5, "layer_types": ["conv", "full_attention", "conv", "full_attention", "conv"]}
MODELS = {
    "llama": transformers.LlamaConfig(**SIZES, num_hidden_layers=2),
    "lfm2": transformers.Lfm2Config(**SIZES, **LAYERS, block_auto_adjust_ff_dim=False),
    "lfm2-moe": transformers.Lfm2MoeConfig(
        **SIZES, **LAYERS, moe_intermediate_size=64, num_dense_layers=1, num_experts=8, num_experts_per_tok=2
    ),
}


def main(out: Path, tokenizer: Path) -> None:
    """Write all checkpoints and the answers."""
    answers = {}
    for name, config in MODELS.items():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        model.save_pretrained(out / name)
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copyfile(tokenizer / file, out / name / file)
        answers[name] = [{"prompt": prompt, "answer": greedy(model, prompt)} for prompt in PROMPTS]
    (out / "answers.json").write_text(json.dumps(answers))


def greedy(model: Any, prompt: list[int]) -> list[int]:
    """Return the likeliest continuation, without the token that ends it."""
    ids = torch.tensor([prompt])
    generated = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS)
    continuation: list[int] = generated[0, len(prompt) :].tolist()
    return continuation[:-1] if continuation[-1] == model.config.eos_token_id else continuation


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
