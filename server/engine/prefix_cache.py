"""Caches the state of earlier prompts and answers for reuse.

The prefix cache is a radix tree over tokens. Each node holds the state of its tokens. KV can be cut after any token,
but the window of a convolution cannot be derived from KV. A node therefore also holds the convolution windows after its
last token. The end of a node is thus a checkpoint: a prompt can continue from there. Models without convolutions can
continue from any token. The cache stores and returns snapshots; it knows neither requests nor slots.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from server.runtime.slots import Windows
from server.runtime.snapshots import Snapshot

Tokens = npt.NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Root:
    """The root of the tree for one cache salt.

    `children`: child nodes, by their first token. Nodes with the same first token may share further tokens, but no node
    is a prefix of another.
    """

    children: dict[int, list[Node]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Node(Root):
    """A run of tokens in the tree that ends at a checkpoint.

    `tokens`: int64 [n], the tokens that follow the tokens of `parent`.
    `snapshot`: state of these n tokens.
    `parent`: the preceding node, or the root.
    """

    tokens: Tokens = field(kw_only=True)
    snapshot: Snapshot = field(kw_only=True)
    parent: Root = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Match:
    """The result of a lookup.

    `snapshots`: consecutive snapshots, which together hold the state of the first `length` tokens.
    `length`: number of tokens whose state was found.
    `branch`: number of leading tokens that are in the tree. It is larger than `length` if there is no checkpoint at the
    position where the tokens diverge from the tree.
    """

    snapshots: tuple[Snapshot, ...]
    length: int
    branch: int


class PrefixCache:
    """A cache of snapshots that evicts the least recently used ones.

    The cache is not thread-safe.

    `budget`: maximum number of bytes in the cache.
    `tokens`, `nbytes`: number of tokens and bytes in the cache now.
    `window_bytes`: the part of `nbytes` that convolution windows take.
    `queried_tokens`, `hit_tokens`, `evicted_tokens`: total numbers of tokens looked up, found, and evicted.
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
        # The least recently used node comes first. Ancestors are always touched after their descendants, so the first
        # node is a leaf.
        self._by_use: OrderedDict[Node, None] = OrderedDict()

    def __iter__(self) -> Iterator[Node]:
        """Iterate over all nodes, least recently used first."""
        return iter(self._by_use)

    def match(self, tokens: Tokens, salt: str) -> Match:
        """Return the state of the longest cached prefix of `tokens`.

        Updates the counters and the order of use.
        """
        nodes, partial, branch = self._walk(tokens, salt)
        snapshots = [node.snapshot for node in nodes]
        length = sum(snapshot.length for snapshot in snapshots)
        if partial is not None and not partial.snapshot.windows:
            snapshots.append(partial.snapshot.split(branch - length, {})[0])
            length = branch
        if nodes:
            self._touch(nodes[-1])
        self.queried_tokens += len(tokens)
        self.hit_tokens += length
        return Match(tuple(snapshots), length, branch)

    def count_cached(self, tokens: Tokens, salt: str) -> int:
        """Return approximately how many tokens `match` would find.

        Does not update the counters or the order of use.
        """
        nodes, _, _ = self._walk(tokens, salt)
        return sum(len(node.tokens) for node in nodes)

    def insert(self, tokens: Tokens, salt: str, snapshot: Snapshot) -> None:
        """Add a snapshot to the tree.

        `tokens`: all tokens of the sequence up to the end of the snapshot.
        `snapshot`: state of the last `snapshot.length` of these tokens.

        The earlier tokens must be in the tree. If they are not, for example because they were evicted in the meantime,
        the snapshot is dropped.
        """
        nodes, partial, branch = self._walk(tokens, salt)
        end = sum(len(node.tokens) for node in nodes)
        missing = len(tokens) - end
        if missing == 0:
            self._touch(nodes[-1])
            return
        if partial is not None and branch == len(tokens):
            self._touch(self._split(partial, missing, snapshot.windows))
        elif missing <= snapshot.length and snapshot.nbytes <= self.budget:
            parent = nodes[-1] if nodes else self._roots.setdefault(salt, Root())
            if partial is not None and not snapshot.windows:
                parent = self._split(partial, branch - end, {})
                missing = len(tokens) - branch
            if missing < snapshot.length:
                snapshot = snapshot.split(snapshot.length - missing, snapshot.windows)[1]
            self._touch(self._add(parent, tokens[-missing:].copy(), snapshot))
        self._evict()

    def _walk(self, tokens: Tokens, salt: str) -> tuple[list[Node], Node | None, int]:
        """Follow `tokens` down the tree of `salt`.

        Returns the nodes that match completely, the node that matches only in part (None if there is none), and the
        number of tokens that match.
        """
        current: Root | None = self._roots.get(salt)
        nodes: list[Node] = []
        length = 0
        while current is not None and length < len(tokens):
            rest = tokens[length:]
            children = current.children.get(int(rest[0]), ())
            shared = ((_common_prefix(c.tokens, rest), c) for c in children)
            common, child = max(shared, key=itemgetter(0), default=(0, None))
            length += common
            if child is None or common < len(child.tokens):
                return nodes, child, length
            nodes.append(child)
            current = child
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

    def _split(self, node: Node, at: int, windows: Windows) -> Node:
        """Split a node in two and return the first part.

        `at`: number of tokens in the first part.
        `windows`: convolution windows after these tokens.
        """
        before, after = node.snapshot.split(at, windows)
        self._remove(node)
        head = self._add(node.parent, node.tokens[:at], before)
        tail = self._add(head, node.tokens[at:], after)
        tail.children = node.children
        for children in tail.children.values():
            for child in children:
                child.parent = tail
        self._touch(tail)
        return head

    def _touch(self, node: Node) -> None:
        """Mark a node, and then each of its ancestors, as just used."""
        current: Root = node
        while isinstance(current, Node):
            self._by_use.move_to_end(current)
            current = current.parent

    def _evict(self) -> None:
        """Evict the least recently used nodes until the cache fits its budget."""
        if self.nbytes <= self.budget:
            return
        while self.nbytes > self.budget:
            oldest = next(iter(self._by_use))
            self.evicted_tokens += len(oldest.tokens)
            self._remove(oldest)
        # Clients choose the salts, so there may be many. Drop the salts without nodes.
        for salt in [salt for salt, root in self._roots.items() if not root.children]:
            del self._roots[salt]


def _common_prefix(a: Tokens, b: Tokens) -> int:
    """Return the length of the longest common prefix of `a` and `b`."""
    n = min(len(a), len(b))
    agree = a[:n] == b[:n]
    return n if agree.all() else int(agree.argmin())
