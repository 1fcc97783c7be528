"""Simulates replicas that answer a multi-turn load.

Only the order and the duration of steps are simulated.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.conversations import Load, Result
from server.bench.load import percentile
from server.kv_events.blocks import BLOCK_TOKENS

SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Costs:
    """Speed and size of a replica.

    The defaults are those of LFM2-8B-A1B in 4 bits on 2 cores (docs/sizing.md).

    token: seconds to prefill one token.
    step: seconds of a decode step without rows.
    row: seconds that each row adds to a decode step.
    slots: number of requests that are answered at once.
    chunk: maximum number of prompt tokens between two decode steps.
    cache: number of tokens in the prefix cache.
    """

    token: float = 1 / 85
    step: float = 0.085
    row: float = 0.0125
    slots: int = 16
    chunk: int = 64
    cache: int = 170_000


@dataclass(slots=True, eq=False)
class Request:
    """One turn of a conversation.

    sent: time at which the client sent it, in seconds.
    prompt: length of the prompt in tokens.
    answer: length of the answer in tokens.
    missing: number of prompt tokens to prefill; None before the prefill starts.
    """

    conversation: int
    turn: int
    sent: float
    prompt: int
    answer: int
    missing: int | None = None
    generated: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a replica.

    seconds: duration of the step.
    started: the requests that got their first token.
    ended: the requests that ended.
    """

    seconds: float
    started: list[Request]
    ended: list[Request]


@dataclass(slots=True, eq=False)
class Replica:
    """One replica: its queue, its slots and its prefix cache.

    system: length of the common system message, in tokens.
    cached: number of cached tokens by conversation, and for SYSTEM; least recently used first.
    """

    costs: Costs
    system: int
    queue: deque[Request] = field(default_factory=deque)
    prefilling: deque[Request] = field(default_factory=deque)
    decoding: list[Request] = field(default_factory=list)
    cached: OrderedDict[int | str, int] = field(default_factory=OrderedDict)
    busy: bool = False
    decode_next: bool = False
    computed: int = 0

    @property
    def ongoing(self) -> int:
        """Number of requests that are queued or being answered."""
        return len(self.queue) + len(self.prefilling) + len(self.decoding)

    def prefix(self, conversation: int) -> int:
        """Return how many leading tokens of a conversation are cached, in whole blocks."""
        return _whole_blocks(self.cached.get(conversation) or self.cached.get(SYSTEM) or 0)

    def expected_prefix(self, conversation: int) -> int:
        """Return how many tokens will be cached once the present requests are prefilled."""
        return self.prefix(conversation) or (_whole_blocks(self.system) if self.ongoing else 0)

    def step(self) -> Step:
        """Run one step. Decode steps and prefill chunks alternate."""
        while self.queue and len(self.prefilling) + len(self.decoding) < self.costs.slots:
            self.prefilling.append(self.queue.popleft())
        decodes = bool(self.decoding) and (self.decode_next or not self.prefilling)
        self.decode_next = not decodes
        return self._decode() if decodes else self._prefill()

    def _prefill(self) -> Step:
        request = self.prefilling[0]
        if request.missing is None:
            request.missing = max(1, request.prompt - self.prefix(request.conversation))
            self.computed += request.missing
        tokens = min(request.missing, self.costs.chunk) if self.decoding else request.missing
        request.missing -= tokens
        if request.missing:
            return Step(tokens * self.costs.token, [], [])
        self.decoding.append(self.prefilling.popleft())
        self._keep(SYSTEM, self.system)
        self._keep(request.conversation, request.prompt)
        request.generated = 1
        return Step(tokens * self.costs.token, [request], self._take_ended())

    def _decode(self) -> Step:
        seconds = self.costs.step + self.costs.row * len(self.decoding)
        for request in self.decoding:
            request.generated += 1
        return Step(seconds, [], self._take_ended())

    def _take_ended(self) -> list[Request]:
        ended = [request for request in self.decoding if request.generated >= request.answer]
        self.decoding = [request for request in self.decoding if request.generated < request.answer]
        for request in ended:
            self._keep(request.conversation, request.prompt + request.answer)
        return ended

    def _keep(self, name: int | str, tokens: int) -> None:
        self.cached[name] = tokens
        self.cached.move_to_end(name)
        while sum(self.cached.values()) - self.system * (len(self.cached) - 1) > self.costs.cache:
            self.cached.popitem(last=False)


Router = Callable[[Sequence[Replica], Request], int]
"""A function that returns the index of the replica for a request."""


class Fleet:
    """Replicas behind a router, under a load."""

    def __init__(self, replicas: int, load: Load, costs: Costs, route: Router) -> None:
        self._load = load
        self._route = route
        self._replicas = [Replica(costs, load.system) for _ in range(replicas)]
        self._waiting: Iterator[int] = iter(range(load.conversations))
        self._random = random.Random(0)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._ttfts: list[float] = []
        self._prompt_tokens = 0

    def run(self) -> Result:
        """Run the whole load and return what it cost."""
        for _ in range(min(self._load.clients, self._load.conversations)):
            self._begin_conversation(self._random.uniform(0, self._load.think))
        while self._events:
            now, _, action = heapq.heappop(self._events)
            action(now)
        computed = sum(replica.computed for replica in self._replicas)
        return Result(self._prompt_tokens, computed, median(self._ttfts), percentile(self._ttfts, 95))

    def _at(self, when: float, action: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, self._random.getrandbits(60), action))

    def _begin_conversation(self, when: float) -> None:
        conversation = next(self._waiting, None)
        if conversation is not None:
            self._at(when, lambda now: self._send(conversation, 0, self._load.system, now))

    def _send(self, conversation: int, turn: int, history: int, now: float) -> None:
        """Send a turn.

        history: number of tokens before the turn's user message.
        """
        prompt = history + self._load.user_tokens(conversation, turn)
        self._prompt_tokens += prompt
        request = Request(conversation, turn, now, prompt, self._load.answer)
        replica = self._replicas[self._route(self._replicas, request)]
        replica.queue.append(request)
        if not replica.busy:
            self._run_step(replica, now)

    def _run_step(self, replica: Replica, now: float) -> None:
        replica.busy = replica.ongoing > 0
        if replica.busy:
            step = replica.step()
            self._at(now + step.seconds, lambda end: self._end_step(replica, step, end))

    def _end_step(self, replica: Replica, step: Step, now: float) -> None:
        self._ttfts.extend(now - request.sent for request in step.started)
        for request in step.ended:
            self._follow(request, now)
        self._run_step(replica, now)

    def _follow(self, request: Request, now: float) -> None:
        """Let a client send its next turn, or begin another conversation."""
        when = now + (self._random.expovariate(1 / self._load.think) if self._load.think else 0.0)
        if request.turn + 1 == self._load.turns:
            self._begin_conversation(when)
        else:
            history = request.prompt + request.answer
            self._at(when, lambda now: self._send(request.conversation, request.turn + 1, history, now))


def _whole_blocks(tokens: int) -> int:
    """Return how many of `tokens` lie in whole blocks."""
    return tokens // BLOCK_TOKENS * BLOCK_TOKENS
