"""Builds a scripted model, which generates a given text in answer to a given message.

Tests use it to run the whole server on any text that a model might generate. The graph has the inputs and outputs of
LFM2 and depends on its state as a real model does. For each token, the convolution's state gets a column with sums over
the current message, sums over the message before it, and a checksum of the whole sequence. The KV cache holds each
token's part of the same checksum. If the two disagree, because state was lost, mixed up or masked wrongly, the model
generates only "?".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from tokenizers import Tokenizer

from server.export.external_data import ExternalData
from server.export.folder import copy_companions
from server.export.graph_builder import MICROSOFT, GraphBuilder
from tests.models import TOKENIZER

ROWS, LENGTH, HEAD_DIM = 8, 3, 8
CYCLE = 16
"""Keeps sums over a message of 4,000 tokens below 2**24, up to which float32 represents all integers."""
TOLERANCE = 1e-4
"""The permitted difference of two means of numbers from 0 to 1; losing one token of 1,000 exceeds it."""

Script = tuple[str, str] | tuple[str, str, str]
THOUGHTS = "Shall I say <|tool_call_start|>[nothing()]<|tool_call_end|>?"


def scripted(folder: Path, scripts: Sequence[Script], positions: int = 4096) -> Path:
    """Write a model that answers the message `content` with `output`; return its folder.

    A script is (content, output) or (content, output, role). It applies if the prompt's last message has this content
    and role, by default "user". Without a script the answer is empty. `output` may contain special tokens. Raises
    ValueError if the messages of two scripts have the same tokens.

    positions: the model's context length, in tokens.
    """
    tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab_size()
    tables = np.random.default_rng(0).integers(1, 256, (vocabulary, 2)).astype(np.float32)
    messages = [_message(*script) for script in scripts]
    keys = np.stack([_key(_encode(tokenizer, message), tables) for message in messages])
    if len(np.unique(keys, axis=0)) < len(keys):
        raise ValueError(f"Two of the scripted messages {sorted(messages)} have the same tokens: change a word.")
    answers = _table([_encode(tokenizer, f"{output}<|im_end|>") for _, output, *_ in scripts])
    (folder / "onnx").mkdir(parents=True)
    path = folder / "onnx" / "model.onnx"
    with ExternalData(path) as data:
        graph = GraphBuilder(data)
        _Graph(graph, tokenizer, tables).build(keys, answers)
        graph.save(path, name="scripted")
    config = {"model_type": "lfm2", "vocab_size": vocabulary, "hidden_size": ROWS, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 1, "num_key_value_heads": 1, "layer_types": ["conv", "full_attention"]}
    config |= {"max_position_embeddings": positions, "bos_token_id": 1, "eos_token_id": 7, "pad_token_id": 0}
    copy_companions(TOKENIZER, folder, config)
    return folder


def thinker(folder: Path, scripts: Sequence[Script]) -> Path:
    """Write a scripted model that thinks THOUGHTS before each answer."""
    thought = [(content, f"<think>{THOUGHTS}</think>{output}", *role) for content, output, *role in scripts]
    scripted(folder, thought)  # type: ignore[arg-type]
    marks_as_thinking(folder)
    return folder


def marks_as_thinking(folder: Path) -> None:
    """Make the server treat the model as a thinking one, by mentioning `</think>` in its template."""
    template = folder / "chat_template.jinja"
    template.write_text("{#- Answers come after </think>. -#}" + template.read_text())


class _Graph:
    """The graph of a scripted model. Values are float32 [batch, length, features] unless stated otherwise."""

    def __init__(self, graph: GraphBuilder, tokenizer: Tokenizer, tables: NDArray[np.float32]) -> None:
        self.g, self.tokenizer, self.tables = graph, tokenizer, tables

    def build(self, keys: NDArray[np.float32], answers: NDArray[np.int64]) -> None:
        g, vocabulary = self.g, len(self.tables)
        ids = g.input("input_ids", ["batch_size", "sequence_length"], TensorProto.INT64)
        g.input("attention_mask", ["batch_size", "total_sequence_length"], TensorProto.INT64)
        g.input("num_logits_to_keep", [], TensorProto.INT64)
        g.output("logits", ["batch_size", "num_logits_to_keep", vocabulary])
        parts = np.random.default_rng(1).random((vocabulary, 1), np.float32)
        part = g.node("Gather", g.weight("checksum_parts", parts), ids)
        steps, key, checksum = self.columns(ids, part)
        token = self.answer(steps, key, keys, answers)
        off = g.node("Abs", g.node("Sub", checksum, self.mean_in_cache(part)))
        confused = g.constant(_encode(self.tokenizer, "?")[0])
        token = g.node("Where", g.node("Less", off, self.float(TOLERANCE)), token, confused)
        first = g.node("Unsqueeze", g.node("Neg", "num_logits_to_keep"), g.constant([0]))
        kept = g.node("Squeeze", g.tail(token, first, axis=1), g.constant([2]))
        g.node("OneHot", kept, g.constant(vocabulary), g.constant([0, 30], np.float32), out="logits")

    def columns(self, ids: str, part: str) -> tuple[str, str, str]:
        """Return three values after each token.

        They are the number of tokens in this message, the sums over the message before it, and the checksum's mean.
        """
        g = self.g
        past = g.node("Transpose", g.input("past_conv.0", ["batch_size", ROWS, LENGTH]), perm=[0, 2, 1])
        newest = g.tail(past, g.constant([-1]), axis=1)
        old_now, old_before, old_sum = g.nodes("Split", newest, g.constant([3, 3, 2]), outs=[None] * 3, axis=2)
        is_start = g.node("Equal", ids, g.constant(self.tokenizer.token_to_id("<|im_start|>")))
        starts = g.node("CumSum", g.node("Cast", is_start, to=TensorProto.FLOAT), g.constant(1))
        row, column = (g.node("Unsqueeze", starts, g.constant([axis])) for axis in (1, 2))
        apart = g.node("Sub", column, row)  # [batch, length, length]: the number of messages between two tokens
        same, carried = g.node("Trilu", self.where(apart, 0), upper=0), self.where(column, 0)
        ones = g.node("Expand", self.float([1.0]), g.node("Shape", part))
        old_steps = g.tail(old_now, g.constant([-1]), axis=2)
        steps = g.node("Add", g.node("MatMul", same, ones), g.node("Mul", carried, old_steps))
        place = g.node("Add", g.node("Mod", steps, self.float(CYCLE), fmod=1), self.float(1))
        values = g.node("Mul", g.node("Gather", g.weight("values_of_tokens", self.tables), ids), place)
        values = g.node("Concat", values, ones, axis=2)
        now = g.node("Add", g.node("MatMul", same, values), g.node("Mul", carried, old_now))
        before = g.node("Add", g.node("MatMul", self.where(apart, 1), values), g.node("Mul", carried, old_before))
        before = g.node("Add", before, g.node("Mul", self.where(column, 1), old_now))
        added = g.node("CumSum", g.node("Concat", part, ones, axis=2), g.constant(1))
        total, length = g.nodes("Split", g.node("Add", added, old_sum), outs=[None] * 2, axis=2, num_outputs=2)
        new = g.node("Concat", now, before, total, length, axis=2)
        window = g.node("Transpose", g.node("Concat", past, new, axis=1), perm=[0, 2, 1])
        g.tail(window, g.constant([-LENGTH]), axis=2, out=g.output("present_conv.0", ["batch_size", ROWS, LENGTH]))
        return steps, before, g.node("Div", total, length)

    def answer(self, steps: str, key: str, keys: NDArray[np.float32], answers: NDArray[np.int64]) -> str:
        """Return the token after each token, ids [batch, length, 1]; the end token if no script applies."""
        g = self.g
        equal = g.node("Equal", g.node("Unsqueeze", key, g.constant([2])), g.weight("keys", keys))
        hit = g.node("ReduceMin", g.node("Cast", equal, to=TensorProto.INT32), g.constant([-1]), keepdims=0)
        found = g.node("Cast", g.node("ReduceMax", hit, g.constant([-1])), to=TensorProto.BOOL)
        header = len(_encode(self.tokenizer, "<|im_start|>assistant\n"))
        generated = g.node("Sub", steps, self.float(header))
        place = g.node("Clip", generated, self.float(0), self.float(answers.shape[1] - 1))
        cell = g.node("Concat", g.node("ArgMax", hit, axis=2), g.node("Cast", place, to=TensorProto.INT64), axis=2)
        token = g.node("Unsqueeze", g.node("GatherND", g.weight("answers", answers), cell), g.constant([2]))
        return g.node("Where", found, token, g.constant(self.tokenizer.token_to_id("<|im_end|>")))

    def mean_in_cache(self, part: str) -> str:
        """Return the mean of the checksum's parts up to each token, computed by uniform attention to all of them."""
        g = self.g
        cache: list[int | str] = ["batch_size", 1, "past_sequence_length", HEAD_DIM]
        grown: list[int | str] = ["batch_size", 1, "total_sequence_length", HEAD_DIM]
        past = [g.input(f"past_key_values.1.{half}", cache) for half in ("key", "value")]
        present = [g.output(f"present.1.{half}", grown) for half in ("key", "value")]
        value = g.node("Expand", part, g.constant([1, 1, HEAD_DIM]))
        query = g.node("Mul", value, self.float(0))
        lengths = g.node("Sub", g.node("ReduceSum", "attention_mask", g.constant([1]), keepdims=0), g.constant([1]))
        longest = g.node("Gather", g.node("Shape", "attention_mask"), g.constant(1))
        counts = [g.node("Cast", count, to=TensorProto.INT32) for count in (lengths, longest)]
        inputs, outs = (query, value, value, *past, *counts), [None, *present]
        attended, *_ = g.nodes("GroupQueryAttention", *inputs, outs=outs, domain=MICROSOFT, num_heads=1, kv_num_heads=1)
        return g.node("Slice", attended, g.constant([0]), g.constant([1]), g.constant([2]))

    def where(self, x: str, value: float) -> str:
        """Return 1.0 for each element of `x` that equals `value`, 0.0 for the others."""
        return self.g.node("Cast", self.g.node("Equal", x, self.float(value)), to=TensorProto.FLOAT)

    def float(self, value: float | list[float]) -> str:
        return self.g.constant(value, np.float32)


def _key(ids: list[int], tables: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sums that identify a message.

    These are the sums of two random numbers per token, each multiplied by the token's place (modulo CYCLE), and the
    number of tokens.
    """
    places = np.arange(1, len(ids) + 1) % CYCLE + 1
    return np.array([*(tables[ids] * places[:, None]).sum(axis=0), len(ids)], np.float32)


def _message(content: str, _: str, role: str = "user") -> str:
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def _table(rows: list[list[int]]) -> NDArray[np.int64]:
    """Return the rows as a table; the last token of a shorter row is repeated."""
    longest = max(map(len, rows))
    return np.array([row + row[-1:] * (longest - len(row)) for row in rows], np.int64)
