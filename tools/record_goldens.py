#!/usr/bin/env python3
"""Records the answers of transformers for tests/golden. Needs the `train` extra.

    record_goldens.py random             tiny checkpoints with random weights -> tests/golden/random-*.npz
    record_goldens.py demo CHECKPOINT    the built-in model's checkpoint      -> tests/golden/demo.npz

Replaces prompts whose answer has a step at which the best two logits differ by less than MARGIN: correct computations
may disagree there.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools" / "demo_model")]

from data import chat, render  # noqa: E402

from tests.checkpoints import CONFIGS, random_tensors, write_checkpoint  # noqa: E402
from tests.golden.golden_file import STRIDE, Golden, save  # noqa: E402

GOLDENS = ROOT / "tests" / "golden"
MARGIN = 1e-3
PROMPT_LIMIT, ANSWER_LIMIT = 400, 80
BOS, FIRST_PLAIN_ID = 1, 14
ASSISTANT = "<|im_start|>assistant\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("random")
    commands.add_parser("demo").add_argument("checkpoint", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "random":
        record_random()
    else:
        record_demo(arguments.checkpoint)


def record_random() -> None:
    for kind, config in CONFIGS.items():
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = write_checkpoint(Path(folder) / kind, config, random_tensors(config))
            prompts = random_prompts(random.Random(kind), config["vocab_size"])
            record(f"random-{kind}", load(checkpoint), prompts, count=10)


def record_demo(checkpoint: Path) -> None:
    model, tokenizer, rng = load(checkpoint), AutoTokenizer.from_pretrained(checkpoint), random.Random("golden")
    unrounded = [name for name, weight in model.state_dict().items() if not torch.equal(weight, weight.half().float())]
    if unrounded:
        sys.exit(f"All weights must be rounded to float16; these are not: {unrounded[:5]}")
    chats, noise = chat_prompts(rng, tokenizer), random_prompts(rng, model.config.vocab_size)
    mixed = (next(noise) if i % 5 == 4 else prompt for i, prompt in enumerate(chats))
    record("demo", model, mixed, count=50)


def load(checkpoint: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()


def random_prompts(rng: random.Random, vocab_size: int) -> Iterator[list[int]]:
    while True:
        yield [BOS, *rng.choices(range(FIRST_PLAIN_ID, vocab_size), k=rng.randrange(1, PROMPT_LIMIT))]


def chat_prompts(rng: random.Random, tokenizer: AutoTokenizer) -> Iterator[list[int]]:
    """Yield new chats of the training mix, each cut at the start of a random answer."""
    while True:
        text = render(*chat(rng))
        turns = text.count(ASSISTANT)
        begun = ASSISTANT.join(text.split(ASSISTANT)[: rng.randint(1, turns)]) + ASSISTANT
        prompt = tokenizer.encode(begun, add_special_tokens=False)
        if len(prompt) <= PROMPT_LIMIT:
            yield prompt


def record(name: str, model: PreTrainedModel, prompts: Iterator[list[int]], count: int) -> None:
    goldens: list[Golden] = []
    replaced = 0
    while len(goldens) < count:
        golden, margin = answer(model, next(prompts))
        if margin < MARGIN:
            replaced += 1
        else:
            goldens.append(golden)
    path = GOLDENS / f"{name}.npz"
    save(path, goldens)
    lengths = [len(golden.prompt) for golden in goldens]
    generated = sum(len(golden.answer) for golden in goldens)
    print(
        f"{path.name}: {count} prompts of {min(lengths)} to {max(lengths)} tokens, {generated} tokens generated, ",
        end="",
    )
    print(f"{replaced} prompts replaced, {path.stat().st_size / 1000:.0f} kB")


def answer(model: PreTrainedModel, prompt: list[int]) -> tuple[Golden, float]:
    """Return the greedy answer, and the least difference between its best two logits."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=ANSWER_LIMIT,
        do_sample=False,
        repetition_penalty=1.0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    logits = torch.cat(out.logits)
    best = logits.topk(2).values
    ends = logits[[0, -1], ::STRIDE].float().numpy()
    return Golden(prompt, out.sequences[0, len(prompt) :].tolist(), ends), float((best[:, 0] - best[:, 1]).min())


if __name__ == "__main__":
    main()
