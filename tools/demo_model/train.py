"""Trains the demo model.

`python train.py OUT --minutes 100` writes a Hugging Face checkpoint to OUT. Needs the `train` extra. Weights are
rounded to float16 and saved as float32. The tokenizer comes from `--tokenizer FOLDER`, or is trained first.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from data import chat, render
from tokenizer import train as train_tokenizer
from tokenizers import Tokenizer
from transformers import Lfm2MoeConfig, Lfm2MoeForCausalLM

TRAINING_SEED, HELD_OUT_SEED = 1, 2
BATCH_TOKENS, SAMPLE_TOKENS = 6_000, 640
PEAK_LEARNING_RATE, WARM_UP_STEPS = 2e-3, 50
IGNORED = -100  # torch's cross entropy skips this label

CONFIG: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 192,
    "intermediate_size": 512,
    "moe_intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "num_dense_layers": 1,
    "layer_types": ["conv", "full_attention"] * 3,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": 7,
    "pad_token_id": 0,
}
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<|startoftext|>",
    "eos_token": "<|im_end|>",
    "pad_token": "<|pad|>",
    "clean_up_tokenization_spaces": False,
}
GENERATION_CONFIG = {
    "bos_token_id": 1,
    "eos_token_id": 7,
    "pad_token_id": 0,
    "do_sample": True,
    "temperature": 0.3,
    "min_p": 0.15,
    "repetition_penalty": 1.05,
}

Sample = tuple[list[int], list[int]]  # token ids; labels, IGNORED outside the answers


class Encoder:
    """A source of samples. Labels are the assistant's words and `<|im_end|>`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._start = tokenizer.encode("<|im_start|>assistant\n").ids
        self._end = tokenizer.token_to_id("<|im_end|>")

    def sample(self, rng: random.Random) -> Sample:
        ids = self._tokenizer.encode(render(*chat(rng))).ids
        labels, said, start = [IGNORED] * len(ids), False, self._start
        for i, token in enumerate(ids):
            if said:
                labels[i] = token
            if token == self._end:
                said = False
            elif ids[i + 1 - len(start) : i + 1] == start:
                said = True
        return ids, labels

    def batches(self, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (ids, labels) [batch, length] of chats of similar length, endlessly."""
        rng = random.Random(seed)
        while True:
            samples = [s for s in (self.sample(rng) for _ in range(400)) if len(s[0]) <= SAMPLE_TOKENS]
            samples.sort(key=lambda sample: len(sample[0]))
            grouped: list[list[Sample]] = [[]]
            for sample in samples:
                if (len(grouped[-1]) + 1) * len(sample[0]) > BATCH_TOKENS:
                    grouped.append([])
                grouped[-1].append(sample)
            rng.shuffle(grouped)
            yield from map(padded, grouped)


def padded(samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(ids) for ids, _ in samples)
    ids = torch.tensor([s + [CONFIG["pad_token_id"]] * (longest - len(s)) for s, _ in samples])
    labels = torch.tensor([s + [IGNORED] * (longest - len(s)) for _, s in samples])
    return ids, labels


def answers_right(model: Lfm2MoeForCausalLM, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Return the share of held-out answers that greedy decoding reproduces exactly."""
    right = total = 0
    model.eval()
    with torch.no_grad():
        for ids, labels in batches:
            wrong = (model(input_ids=ids).logits[:, :-1].argmax(-1) != labels[:, 1:]) & (labels[:, 1:] != IGNORED)
            for row, row_labels in zip(wrong.tolist(), labels[:, 1:].tolist(), strict=True):
                good = True
                for bad, label in zip(row, row_labels, strict=True):
                    good = good and not bad
                    if label == CONFIG["eos_token_id"]:
                        right, total, good = right + good, total + 1, True
    model.train()
    return right / total


def train(model: Lfm2MoeForCausalLM, encoder: Encoder, minutes: float, out: Path) -> None:
    held_out = [batch for batch, _ in zip(encoder.batches(HELD_OUT_SEED), range(8), strict=False)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.95), weight_decay=0.05)
    began, seen = time.monotonic(), 0
    for step, (ids, labels) in enumerate(encoder.batches(TRAINING_SEED)):
        elapsed = time.monotonic() - began
        done = elapsed / (minutes * 60)
        if done >= 1:
            return
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LEARNING_RATE * min(1, (step + 1) / WARM_UP_STEPS) * (1 - 0.95 * done)
        # Padding is on the right, where causal layers never look, so no mask is needed.
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen += ids.numel()
        if step % 25 == 0:
            print(f"{elapsed / 60:6.1f} min, step {step}, {seen:,} tokens, loss {loss.item():.4f}", flush=True)
        if step and step % 250 == 0:
            print(f"held-out answers right: {answers_right(model, held_out):.1%}", flush=True)
            save(model, out)


def save(model: Lfm2MoeForCausalLM, out: Path) -> None:
    rounded = {name: t.half().float() for name, t in model.state_dict().items()}
    model.save_pretrained(out, state_dict=rounded)
    (out / "generation_config.json").write_text(json.dumps(GENERATION_CONFIG, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the checkpoint")
    parser.add_argument("--minutes", type=float, default=100, help="training time (default: 100)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--tokenizer", type=Path, help="folder with the tokenizer.json to reuse")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    kept = arguments.tokenizer
    tokenizer = Tokenizer.from_file(str(kept / "tokenizer.json")) if kept else train_tokenizer(TRAINING_SEED)
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name("chat_template.jinja"), out / "chat_template.jinja")

    model = Lfm2MoeForCausalLM._from_config(Lfm2MoeConfig(**CONFIG), experts_implementation="eager")
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    save(model, out)
    train(model, Encoder(tokenizer), arguments.minutes, out)
    save(model, out)


if __name__ == "__main__":
    main()
