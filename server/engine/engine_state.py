"""Who waits, who prefills, who decodes, and which slot is whose. Changed only under the engine's lock.

Decoding sequences occupy slots 0..n-1 in order, so that a decode batch is a view of the front; prefilling ones sit
behind them. Between steps a leaver's place is taken by the last of the batch, and a finished prompt moves to its end.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from server.engine.cost_model import CostModel
from server.engine.observations import StepKind
from server.engine.prefix_cache import PrefixCache
from server.engine.schedule import Flight, Load, Policy, Prompt
from server.engine.sequence import Sequence
from server.engine.waiting import WaitingQueue
from server.runtime.slots import SlotPool
from server.runtime.snapshots import Snapshot

log = logging.getLogger(__name__)

HEADROOM = 16
"""Tokens each running sequence may grow by before another one is let in, or it might soon have to leave again."""

UNCACHED = "There is no memory to keep a request's state for the prefix cache."

AHEAD = 4
"""So many prompts with a slot that nobody has begun to read let in only those that are to be read before them."""


@dataclass(slots=True)
class EngineState:
    """Every sequence is in exactly one of `waiting`, `prefilling`, `decoding`; `decoding[i]` has slot i.

    The slots hold at most `slot_tokens` tokens in all, unless a single sequence needs more; `preemptions` counts
    sequences set aside for that. `flights` are the steps being carried out, `last` the kind of the one begun last.
    """

    slots: SlotPool
    cache: PrefixCache
    slot_tokens: int
    policy: Policy
    waiting: WaitingQueue = field(default_factory=WaitingQueue)
    prefilling: list[Sequence] = field(default_factory=list)
    decoding: list[Sequence] = field(default_factory=list)
    costs: CostModel = field(default_factory=CostModel)
    flights: list[Flight] = field(default_factory=list)
    last: StepKind | None = None
    preemptions: int = 0

    @property
    def running(self) -> int:
        return len(self.prefilling) + len(self.decoding)

    @property
    def free_slots(self) -> int:
        return self.slots.n_slots - self.running

    @property
    def held_tokens(self) -> int:
        """What the running sequences' slots hold, or will once their prompts are read."""
        return sum(s.length for s in (*self.prefilling, *self.decoding))

    @property
    def decodes(self) -> bool:
        """Whether the decode batch is in flight."""
        return any(flight.kind is StepKind.DECODE for flight in self.flights)

    def queue(self, sequence: Sequence) -> None:
        """Let a new sequence wait for a slot."""
        self.waiting.add(sequence, self._due(sequence))

    def settle(self) -> None:
        """Bring all that is not in flight in order: the cancelled leave, the waiting enter, the ready join."""
        self._drop_cancelled()
        self._join_decode_batch()
        self._set_aside()
        self._admit()

    def load(self) -> Load:
        """What the scheduler is to choose from; `Load.prompts` goes with `prompts()`."""
        return Load(
            decoding=0 if self.decodes else len(self.decoding),
            prompts=tuple(Prompt(s.remaining, max(s.to_read, s.remaining)) for s in self.prompts()),
            flights=tuple(self.flights),
            last=self.last,
        )

    def prompts(self) -> list[Sequence]:
        """Sequences with tokens left to read that no session works on, the most urgent first.

        That is who would be done first if all had begun when they came: a short prompt passes a long one, and no
        number of short ones keeps a long one waiting forever.
        """
        unread = [s for s in self.prefilling if not s.in_flight and not s.is_ready]
        return sorted(unread, key=self._due)

    def save(self, sequence: Sequence) -> None:
        """Bring what is computed of a sequence that is not in flight, or of the caller's own, into the cache."""
        if self.cache.budget and sequence.begun and sequence.computed > sequence.saved:
            assert sequence.slot is not None
            try:
                snapshot = self.slots.save(sequence.slot, sequence.saved, sequence.computed)
            except MemoryError:
                log.warning(UNCACHED)
            else:
                self.keep(sequence, sequence.computed, snapshot)

    def keep(self, sequence: Sequence, end: int, snapshot: Snapshot) -> None:
        """Bring the state of a sequence's tokens up to `end` into the cache."""
        try:
            self.cache.insert(sequence.tokens[:end], sequence.request.context.cache_salt, snapshot)
        except MemoryError:
            log.warning(UNCACHED)
        sequence.saved = end

    def leave(self, sequence: Sequence) -> None:
        """Take out a sequence that is not in flight and free its slot."""
        assert sequence.slot is not None
        if sequence in self.prefilling:
            self.prefilling.remove(sequence)
            self.slots.release(sequence.slot)
        else:
            self._close_gap(sequence, sequence.slot)
        sequence.slot = None

    def read_ahead(self, sequence: Sequence) -> None:
        """Take a sequence out of the decode batch, which is not in flight, to read tokens that are known already."""
        assert sequence.slot is not None
        last = self.decoding.pop()
        if last is not sequence:
            assert last.slot is not None
            self.decoding[sequence.slot] = last
            self._swap(sequence, last)
        sequence.to_read = sequence.remaining
        self.prefilling.append(sequence)

    def _close_gap(self, leaver: Sequence, slot: int) -> None:
        """The last of the decode batch takes the leaver's place."""
        last = self.decoding.pop()
        if last is leaver:
            self.slots.release(slot)
            return
        self.slots.move(len(self.decoding), slot, last.computed)
        self.decoding[slot] = last
        last.slot = slot

    def _due(self, sequence: Sequence) -> float:
        """When a prompt would have been read, had that begun when it came (monotonic seconds)."""
        return sequence.queued_at + self.costs.seconds(StepKind.PREFILL, self.policy.wide, sequence.remaining)

    def _drop_cancelled(self) -> None:
        for sequence in [s for s in (*self.prefilling, *self.decoding) if s.cancelled and not s.in_flight]:
            self.save(sequence)
            self.leave(sequence)

    def _set_aside(self) -> None:
        """Where the slots hold too much, the youngest waits again; it goes on from what the cache keeps of it."""
        while self.held_tokens > self.slot_tokens and self.running > 1:
            resting = [s for s in (*self.prefilling, *self.decoding) if not s.in_flight]
            if not resting:
                return
            youngest = max(resting, key=lambda s: s.queued_at)
            self.save(youngest)
            self.leave(youngest)
            youngest.begin_again()
            self.waiting.give_back(youngest)
            self.preemptions += 1

    def _admit(self) -> None:
        while (sequence := self.waiting.first()) is not None and self.free_slots and self._has_room(sequence):
            taken = {s.slot for s in self.prefilling}
            self.waiting.take()
            # From the back: the front is where the decode batch grows.
            sequence.slot = next(i for i in reversed(range(self.slots.n_slots)) if i not in taken)
            sequence.known = self._look_up(sequence)
            self.prefilling.append(sequence)

    def _has_room(self, sequence: Sequence) -> bool:
        due = self._due(sequence)
        if sum(not s.begun and self._due(s) <= due for s in self.prefilling) >= AHEAD:
            return False
        tokens = self.held_tokens + sequence.length + HEADROOM * self.running
        return tokens <= self.slot_tokens or not self.running

    def _look_up(self, sequence: Sequence) -> int:
        if sequence.request.prompt_logprobs is not None:
            return 0
        return self.cache.known(sequence.tokens[: sequence.length - 1], sequence.request.context.cache_salt)

    def _join_decode_batch(self) -> None:
        """Move sequences whose prompt is done to the end of the batch, unless a session works in that place."""
        if self.decodes:
            return
        for sequence in [s for s in self.prefilling if s.is_ready and not s.in_flight]:
            target = len(self.decoding)
            occupant = next((s for s in self.prefilling if s.slot == target), None)
            if occupant is not None and occupant is not sequence and occupant.in_flight:
                return
            self._place(sequence, target, occupant)
            self.prefilling.remove(sequence)
            self.decoding.append(sequence)

    def _place(self, sequence: Sequence, target: int, occupant: Sequence | None) -> None:
        assert sequence.slot is not None
        if occupant is None:
            self.slots.move(sequence.slot, target, sequence.computed)
            sequence.slot = target
        elif occupant is not sequence:
            self._swap(sequence, occupant)

    def _swap(self, a: Sequence, b: Sequence) -> None:
        long, short = (a, b) if a.computed >= b.computed else (b, a)
        assert long.slot is not None
        assert short.slot is not None
        self.slots.swap(long.slot, short.slot, long.computed, short.computed)
        a.slot, b.slot = b.slot, a.slot
