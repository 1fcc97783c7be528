"""Measures how well a rewritten graph agrees with the original on the same text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server.errors import PreparationError
from server.runtime.graph import Graph, Precision
from server.runtime.session import ModelSession, SessionOptions
from server.runtime.slots import SlotPool

CHUNK = 64  # tokens in one run of a model
TOLERANCES = {Precision.FAST: (0.85, 0.02), Precision.EXACT: (0.97, 0.001)}
"""The lowest `top_1` and the highest `kl_divergence` of an acceptable copy."""

SKIPPING = 1e-3
"""The largest change of a logit when a graph skips positions, relative to their standard deviation.

The native kernels compute the same bits, and onnxruntime's float32 products nearly the same.
"""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two graphs agree.

    tokens: number of positions compared.
    top_1: share of positions at which both graphs have the same most likely token.
    kl_divergence: mean of KL(original || rewritten), in nats.
    """

    tokens: int
    top_1: float
    kl_divergence: float

    def __str__(self) -> str:
        return (
            f"the likeliest token is the same at {self.top_1:.1%} of {self.tokens} positions, "
            f"mean KL divergence {self.kl_divergence:.2g} nats"
        )


def compare(
    original: Graph, rewritten: Graph, tokens: Sequence[int], threads: int, head_dim: int | None = None
) -> Agreement:
    """Run one graph after the other on `tokens`, and compare their logits."""
    expected = _log_probabilities(original, tokens, threads, head_dim)
    found = _log_probabilities(rewritten, tokens, threads, head_dim)
    same = expected.argmax(axis=1) == found.argmax(axis=1)
    divergence = (np.exp(expected) * (expected - found)).sum(axis=1)
    return Agreement(len(tokens), float(same.mean()), float(divergence.mean()))


def require(agreement: Agreement, precision: Precision) -> None:
    """Raise PreparationError if the agreement is outside TOLERANCES or is NaN."""
    top_1, kl_divergence = TOLERANCES[precision]
    if agreement.top_1 >= top_1 and agreement.kl_divergence <= kl_divergence:
        return
    remedy = "Use --precision exact" if precision is Precision.FAST else "This graph cannot be prepared"
    raise PreparationError(
        f"The {precision} graph differs too much from the original: {agreement}. The likeliest token must be "
        f"the same at {top_1:.0%} of the positions or more. The divergence must be at most {kl_divergence:g} nats. "
        f"{remedy}."
    )


def _log_probabilities(
    graph: Graph, tokens: Sequence[int], threads: int, head_dim: int | None
) -> npt.NDArray[np.float32]:
    """Return the next token's log-probabilities at each position, [tokens, vocab].

    Raises PreparationError if they change when the graph skips positions.
    """
    session = ModelSession(graph, SessionOptions(threads, CHUNK), head_dim)
    slots = SlotPool(session.contract.states, 2, len(tokens))
    slots.clear(0)
    slots.clear(1)
    chunks = []
    for first in range(0, len(tokens), CHUNK):
        chunk, past = np.array([tokens[first : first + CHUNK]], np.int64), np.array([first])
        chunks.append(session.run(slots, 0, chunk, past, every_position=True).copy())
        if session.contract.skips_positions:
            last, expected = session.run(slots, 1, chunk, past)[-1], chunks[-1][-1]
            if not np.allclose(last, expected, rtol=0, atol=SKIPPING * expected.std()):
                raise PreparationError("The graph computes other logits when it skips positions.")
    logits = np.concatenate(chunks)
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits
