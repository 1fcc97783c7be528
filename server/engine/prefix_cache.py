"""State of prompts and answers seen before, so that what begins like one of them need not be computed again.

A radix tree over tokens. A node holds the state of its tokens and, since a convolution's window cannot be had from the
KV, what the windows were after its last one: a prompt can go on from the end of any node, a checkpoint. A model without
convolutions can go on from any token. Knows no requests, and no slots: it keeps and gives snapshots.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.runtime.slots import Windows
from server.runtime.snapshots import Snapshot

Tokens = npt.NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Root:
    """Where the prefixes of one salt begin. `children` by their first token.

    Children may agree in more than that one: they are told apart before the end of either.
    """

    children: dict[int, list[Node]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Node(Root):
    """`tokens` after those of `parent`, and their state."""

    tokens: Tokens = field(kw_only=True)
    snapshot: Snapshot = field(kw_only=True)
    parent: Root = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Match:
    """What is known of a prompt: consecutive `snapshots` of its first `length` tokens.

    `branch` is where the prompt leaves what has been seen, which may lie behind the last checkpoint.
    """

    snapshots: tuple[Snapshot, ...]
    length: int
    branch: int


class PrefixCache:
    """Snapshots of at most `budget` bytes in all; the least recently used go first. For one thread at a time.

    `tokens` and `nbytes` are held now, `window_bytes` of them for the checkpoints' convolution windows. The other
    counts only grow: tokens looked up, found, and evicted.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.tokens = 0
        self.nbytes = 0
        self.window_bytes = 0
        self.queried_tokens = 0
        self.hit_tokens = 0
        self.evicted_tokens = 0
        self._roots: dict[str, Root] = {}
        # The least recently used first. A node's ancestors are always used after it, so the first has no children.
        self._by_use: OrderedDict[Node, None] = OrderedDict()

    def __iter__(self) -> Iterator[Node]:
        """All nodes, the least recently used first."""
        return iter(self._by_use)

    def match(self, tokens: Tokens, salt: str) -> Match:
        """The longest known beginning of `tokens` under `salt`; it counts as looked up and as used."""
        nodes, beside, branch = self._walk(tokens, salt)
        snapshots = [node.snapshot for node in nodes]
        length = sum(snapshot.length for snapshot in snapshots)
        if beside is not None and not beside.snapshot.windows:
            snapshots.append(beside.snapshot.split(branch - length, {})[0])
            length = branch
        if nodes:
            self._use(nodes[-1])
        self.queried_tokens += len(tokens)
        self.hit_tokens += length
        return Match(tuple(snapshots), length, branch)

    def known(self, tokens: Tokens, salt: str) -> int:
        """How many of `tokens` a match would find; does not count as one."""
        nodes, _, _ = self._walk(tokens, salt)
        return sum(len(node.tokens) for node in nodes)

    def insert(self, tokens: Tokens, salt: str, snapshot: Snapshot) -> None:
        """Keep the state of the last `snapshot.length` of `tokens`.

        What lies before must be in the tree; where it is not, as when it has been evicted meanwhile, nothing is kept.
        """
        nodes, beside, branch = self._walk(tokens, salt)
        end = sum(len(node.tokens) for node in nodes)
        missing = len(tokens) - end
        if missing == 0:
            self._use(nodes[-1])
            return
        if beside is not None and branch == len(tokens):
            self._use(self._cut(beside, missing, snapshot.windows))
        elif missing <= snapshot.length and snapshot.nbytes <= self.budget:
            parent = nodes[-1] if nodes else self._roots.setdefault(salt, Root())
            if beside is not None and not snapshot.windows:
                parent = self._cut(beside, branch - end, {})
                missing = len(tokens) - branch
            if missing < snapshot.length:
                snapshot = snapshot.split(snapshot.length - missing, snapshot.windows)[1]
            self._use(self._add(parent, tokens[-missing:].copy(), snapshot))
        self._shrink()

    def _walk(self, tokens: Tokens, salt: str) -> tuple[list[Node], Node | None, int]:
        """The nodes that `tokens` goes through whole, one it leaves or ends within, how many tokens agree in all."""
        at: Root | None = self._roots.get(salt)
        nodes: list[Node] = []
        length = 0
        while at is not None and length < len(tokens):
            rest = tokens[length:]
            children = at.children.get(int(rest[0]), ())
            common, child = max(((_common(c.tokens, rest), c) for c in children), key=_first, default=(0, None))
            length += common
            if child is None or common < len(child.tokens):
                return nodes, child, length
            nodes.append(child)
            at = child
        return nodes, None, length

    def _add(self, parent: Root, tokens: Tokens, snapshot: Snapshot) -> Node:
        node = Node(tokens=tokens, snapshot=snapshot, parent=parent)
        parent.children.setdefault(int(tokens[0]), []).append(node)
        self._by_use[node] = None
        self.tokens += len(tokens)
        self.nbytes += snapshot.nbytes
        self.window_bytes += snapshot.window_bytes
        return node

    def _remove(self, node: Node) -> None:
        first = int(node.tokens[0])
        siblings = node.parent.children[first]
        siblings.remove(node)
        if not siblings:
            del node.parent.children[first]
        del self._by_use[node]
        self.tokens -= len(node.tokens)
        self.nbytes -= node.snapshot.nbytes
        self.window_bytes -= node.snapshot.window_bytes

    def _cut(self, node: Node, at: int, windows: Windows) -> Node:
        """Make a checkpoint after a node's first `at` tokens; returns the node that ends there."""
        before, after = node.snapshot.split(at, windows)
        self._remove(node)
        head = self._add(node.parent, node.tokens[:at], before)
        tail = self._add(head, node.tokens[at:], after)
        tail.children = node.children
        for children in tail.children.values():
            for child in children:
                child.parent = tail
        self._use(tail)
        return head

    def _use(self, node: Node) -> None:
        at: Root = node
        while isinstance(at, Node):
            self._by_use.move_to_end(at)
            at = at.parent

    def _shrink(self) -> None:
        if self.nbytes <= self.budget:
            return
        while self.nbytes > self.budget:
            oldest = next(iter(self._by_use))
            self.evicted_tokens += len(oldest.tokens)
            self._remove(oldest)
        # Salts come from clients: one without prefixes is forgotten.
        for salt in [salt for salt, root in self._roots.items() if not root.children]:
            del self._roots[salt]


def _first(pair: tuple[int, Node]) -> int:
    return pair[0]


def _common(a: Tokens, b: Tokens) -> int:
    """How many tokens two texts have in common from their beginning."""
    n = min(len(a), len(b))
    agree = a[:n] == b[:n]
    return n if agree.all() else int(agree.argmin())
