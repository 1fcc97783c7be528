"""Caches the state of earlier prompts and answers.

The cache is a radix tree over tokens. Each node holds the KV of its tokens, and the convolution windows after its last
token. KV can be cut after any token, but windows cannot. A prompt therefore continues from the end of a node, called a
checkpoint. In a model without convolutions, it can continue from any token.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from server.kv_events.blocks import BlockRun
from server.kv_events.held_blocks import HeldBlocks
from server.runtime.slots import Windows
from server.runtime.snapshots import Snapshot

Tokens = npt.NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Root:
    """The root of the tree for one cache salt.

    Siblings may begin alike, such as [1, 2, 3] and [1, 2, 4], because a node can be split only at a checkpoint.

    salt: cache salt of the tree.
    children: child nodes by their first token.
    blocks: blocks that end within this node.
    """

    salt: str
    children: dict[int, list[Node]] = field(default_factory=dict)
    blocks: BlockRun = field(kw_only=True)


@dataclass(slots=True, eq=False)
class Node(Root):
    """A run of tokens in the tree that ends at a checkpoint.

    tokens: int64 [n], the tokens after those of `parent`.
    snapshot: state of these n tokens.
    """

    tokens: Tokens = field(kw_only=True)
    snapshot: Snapshot = field(kw_only=True)
    parent: Root = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Match:
    """The result of a lookup.

    snapshots: consecutive snapshots with the first `length` tokens. Without convolutions, the last one may have more.
    branch: number of leading tokens found in the tree; more than `length` if they end between checkpoints.
    """

    snapshots: tuple[Snapshot, ...]
    length: int
    branch: int


class PrefixCache:
    """A cache of snapshots that evicts the least recently used ones. Not thread-safe.

    budget: maximum number of bytes in the cache.
    held: tracks the blocks in the cache.
    tokens: number of tokens in the cache now.
    nbytes: number of bytes in the cache now.
    window_bytes: part of `nbytes` for convolution windows.
    queried_tokens: total number of tokens looked up.
    hit_tokens: total number of tokens found.
    evicted_tokens: total number of tokens evicted.
    """

    def __init__(self, budget: int, held: HeldBlocks | None = None) -> None:
        self.budget = budget
        self.held = held or HeldBlocks(b"", max_changes=0)
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
        """Look up the longest cached prefix of `tokens`, and mark it as just used."""
        nodes, partial, branch = self._walk(tokens, salt)
        length = _held(nodes, partial, branch)
        if partial is not None and length == branch:
            nodes.append(partial)
        if nodes:
            self._touch(nodes[-1])
        self.queried_tokens += len(tokens)
        self.hit_tokens += length
        return Match(tuple(node.snapshot for node in nodes), length, branch)

    def count_cached(self, tokens: Tokens, salt: str) -> int:
        """Return how many tokens `match` would find, without side effects."""
        return _held(*self._walk(tokens, salt))

    def paths(self) -> Iterator[tuple[str, list[Node]]]:
        """Yield (salt, nodes) for each leaf: the nodes on the path that ends at it.

        The root is left out. The most recently used leaf comes first.
        """
        for leaf in [node for node in reversed(self._by_use) if not node.children]:
            nodes: list[Node] = []
            current: Root = leaf
            while isinstance(current, Node):
                nodes.append(current)
                current = current.parent
            yield leaf.salt, nodes[::-1]

    def insert(self, tokens: Tokens, salt: str, snapshot: Snapshot) -> tuple[Node, int] | None:
        """Add a snapshot to the tree.

        Returns (node, n): the last of `tokens` is token n of this node, counted from 1. Returns None if tokens before
        the snapshot are not in the tree, or if the snapshot is larger than the budget.

        tokens: all tokens of the sequence up to the end of the snapshot.

        Raises MemoryError, without changing the tree, if the system refuses memory.
        """
        nodes, partial, branch = self._walk(tokens, salt)
        end = sum(len(node.tokens) for node in nodes)
        missing = len(tokens) - _held(nodes, partial, branch)
        node: Node | None = None
        if missing == 0:
            node = partial or nodes[-1]
            self._touch(node)
            return node, len(tokens) - end if partial else len(node.tokens)
        if partial is not None and branch == len(tokens):
            node = self._split(partial, missing, snapshot.windows)
        elif missing <= snapshot.length and snapshot.nbytes <= self.budget:
            if missing < snapshot.length:
                snapshot = snapshot.after(snapshot.length - missing)
            parent = nodes[-1] if nodes else self._root(salt)
            if partial is not None and not snapshot.windows:
                parent = self._split(partial, branch - end, {})
            node = self._add(parent, tokens[-missing:].copy(), snapshot)
        if node is None:
            return None
        self._touch(node)
        self._evict()
        return node, len(node.tokens)

    def _walk(self, tokens: Tokens, salt: str) -> tuple[list[Node], Node | None, int]:
        """Follow `tokens` down the tree of `salt`.

        Returns (nodes that match completely, node that matches in part or None, number of matching tokens).
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

    def _root(self, salt: str) -> Root:
        """Return the root for a salt, creating it if needed."""
        if salt not in self._roots:
            self._roots[salt] = Root(salt, blocks=self.held.first_run(salt))
        return self._roots[salt]

    def _add(self, parent: Root, tokens: Tokens, snapshot: Snapshot) -> Node:
        blocks = self.held.add(parent.blocks, tokens)
        node = Node(parent.salt, tokens=tokens, snapshot=snapshot, parent=parent, blocks=blocks)
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
        if node.parent is self._roots[node.salt] and not node.parent.children:
            del self._roots[node.salt]  # clients choose the salts, so there may be many
        del self._by_use[node]
        self.held.remove(node.blocks)
        self.tokens -= len(node.tokens)
        self.nbytes -= node.snapshot.nbytes
        self.window_bytes -= node.snapshot.window_bytes

    def _split(self, node: Node, at: int, windows: Windows) -> Node:
        """Split a node after `at` tokens and return the first part.

        The second part becomes a child of the first. So do siblings that begin with the tokens of the first part.

        windows: convolution windows after `at` tokens.
        """
        siblings = node.parent.children[int(node.tokens[0])]
        beginning = node.tokens[:at].copy()
        sharing = [sibling for sibling in siblings if _common_prefix(sibling.tokens, beginning) == at]
        # Copy all state before changing the tree, because memory may run out.
        first = node.snapshot.part(0, at, windows)
        rests = [child.snapshot.after(at) for child in sharing]
        head = self._add(node.parent, beginning, first)
        for child, rest in zip(sharing, rests, strict=True):
            siblings.remove(child)
            self._move_below(head, child, rest)
        return head

    def _move_below(self, head: Node, node: Node, rest: Snapshot) -> None:
        """Make `node` a child of `head`, and cut the tokens of `head` off `node`.

        The tokens of `node` must begin with those of `head`.

        rest: snapshot of the remaining tokens of `node`.
        """
        at = len(head.tokens)
        self.tokens -= at
        self.nbytes += rest.nbytes - node.snapshot.nbytes
        node.tokens, node.snapshot, node.parent = node.tokens[at:].copy(), rest, head
        node.blocks = self.held.cut(node.blocks, head.blocks)
        head.children.setdefault(int(node.tokens[0]), []).append(node)

    def _touch(self, node: Node) -> None:
        """Mark a node, and then its ancestors, as just used."""
        current: Root = node
        while isinstance(current, Node):
            self._by_use.move_to_end(current)
            current = current.parent

    def _evict(self) -> None:
        """Evict the least recently used nodes until the cache fits its budget."""
        while self.nbytes > self.budget:
            oldest = next(iter(self._by_use))
            self.evicted_tokens += len(oldest.tokens)
            self._remove(oldest)


def _held(nodes: list[Node], partial: Node | None, branch: int) -> int:
    """Return how many leading tokens of a prompt have usable state.

    In a model with convolutions, only the state up to a checkpoint is usable.

    nodes, partial, branch: result of `_walk`.
    """
    if partial is not None and not partial.snapshot.windows:
        return branch
    return sum(len(node.tokens) for node in nodes)


def _common_prefix(a: Tokens, b: Tokens) -> int:
    n = min(len(a), len(b))
    agree = a[:n] == b[:n]
    return n if agree.all() else int(agree.argmin())
