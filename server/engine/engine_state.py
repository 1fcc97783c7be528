"""Keeps the engine's sequences and assigns them to slots.

The n decoding sequences have the first n slots, so that a decode batch is a contiguous view of their state. Prefilling
sequences have higher slots. Sequences change slots to keep this order, but not while they are in a step. All access
needs the engine's lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from server.engine.cost_model import CostModel
from server.engine.disk_tier.tier import DiskTier
from server.engine.fair_queue import FairQueue
from server.engine.observations import StepKind
from server.engine.preemption import preempt_for_fairness, preempt_for_memory
from server.engine.prefix_cache import PrefixCache
from server.engine.schedule import Load, PendingPrompt, Policy, RunningStep
from server.engine.sequence import MAX_BACKLOG, RESUME_BACKLOG, Sequence
from server.runtime.slots import SlotPool
from server.runtime.snapshots import Snapshot

log = logging.getLogger(__name__)

HEADROOM = 16
"""Number of tokens that admission keeps free per running sequence.

With fewer, the engine might soon have to preempt a sequence that it has just admitted.
"""

CACHE_OUT_OF_MEMORY = "There is no memory to keep a request's state in the prefix cache."

MAX_UNSTARTED_PROMPTS = 4
"""Maximum number of admitted prompts whose prefill has not started.

At this limit, another prompt is admitted only if it is more urgent than at least one of them.
"""


@dataclass(slots=True)
class EngineState:
    """All sequences, their slots, and the scheduler's data about steps.

    Each sequence is waiting, prefilling, decoding or suspended. `decoding[i]` has slot i.

    slots: state of the running sequences.
    slot_tokens: maximum number of tokens in all slots together; one sequence alone may exceed it.
    suspended: sequences that lost their slots because their clients read too slowly.
    costs: predicted durations of steps.
    last_kind: kind of the step that started last; None before the first step.
    preemptions: number of preemptions so far.
    disk: prefix cache on disk; None if it is off.
    """

    slots: SlotPool
    cache: PrefixCache
    slot_tokens: int
    policy: Policy
    waiting: FairQueue = field(default_factory=FairQueue)
    prefilling: list[Sequence] = field(default_factory=list)
    decoding: list[Sequence] = field(default_factory=list)
    suspended: list[Sequence] = field(default_factory=list)
    costs: CostModel = field(default_factory=CostModel)
    running_steps: list[RunningStep] = field(default_factory=list)
    last_kind: StepKind | None = None
    preemptions: int = 0
    disk: DiskTier | None = None

    @property
    def running(self) -> int:
        """Number of sequences with a slot."""
        return len(self.prefilling) + len(self.decoding)

    @property
    def free_slots(self) -> int:
        """Number of slots without a sequence."""
        return self.slots.n_slots - self.running

    @property
    def held_tokens(self) -> int:
        """Number of tokens in all running sequences, computed or not."""
        return sum(s.length for s in (*self.prefilling, *self.decoding))

    @property
    def between_steps(self) -> list[Sequence]:
        """The running sequences that are not in a step, those of the decode batch from the last slot on.

        Sequences that leave in this order are not moved first: the last one of the batch fills a gap.
        """
        return [s for s in (*self.prefilling, *reversed(self.decoding)) if not s.in_step]

    @property
    def decode_is_running(self) -> bool:
        """Whether a session is executing a decode step."""
        return any(step.kind is StepKind.DECODE for step in self.running_steps)

    def queue(self, sequence: Sequence) -> None:
        """Add a new sequence to the queue for slots."""
        self.waiting.add(sequence, self._estimated_finish(sequence))

    def settle(self) -> None:
        """Cancel, suspend, resume, preempt and admit sequences as needed.

        Sequences in a running step are left alone.
        """
        if self.disk is not None:
            self.disk.end_overdue_waits()
        self._remove_cancelled()
        self._suspend()
        self._resume()
        self._join_decode_batch()
        preempt_for_memory(self)
        self.admit()
        preempt_for_fairness(self, time.monotonic())

    def unfinished(self) -> list[Sequence]:
        """Return all sequences, with or without a slot."""
        return [*self.waiting, *self.prefilling, *self.decoding, *self.suspended]

    def load(self) -> Load:
        """Return the scheduler's view of the state."""
        s = self.next_prompt()
        return Load(
            decoding=0 if self.decode_is_running else len(self.decoding),
            prompt=None if s is None else PendingPrompt(s.remaining, max(s.prefill_total, s.remaining)),
            running_steps=tuple(self.running_steps),
            last_kind=self.last_kind,
        )

    def next_prompt(self) -> Sequence | None:
        """Return the most urgent sequence that can be prefilled now, or None if there is none.

        Sequences in a running step or waiting for the disk are left out. The most urgent sequence has the earliest
        estimated finish. Estimates start from the time of the request, so no long prompt waits forever.
        """
        pending = [s for s in self.prefilling if not (s.in_step or s.is_ready_to_decode or s.awaits_disk)]
        return min(pending, key=self._estimated_finish, default=None)

    def save(self, sequence: Sequence) -> None:
        """Copy the state of a sequence from its slot into the prefix cache.

        The sequence must not be in a running step. If memory runs out, nothing is saved.
        """
        if self.cache.budget and sequence.prefill_started and sequence.computed > sequence.saved:
            assert sequence.slot is not None
            try:
                snapshot = self.slots.save(sequence.slot, sequence.saved, sequence.computed)
            except MemoryError:
                log.warning(CACHE_OUT_OF_MEMORY)
            else:
                self.add_to_cache(sequence, sequence.computed, snapshot)

    def add_to_cache(self, sequence: Sequence, end: int, snapshot: Snapshot) -> None:
        """Add a snapshot of a sequence to the prefix cache.

        Logs a warning if memory runs out.

        snapshot: state of tokens `sequence.saved` to `end` - 1.
        """
        try:
            place = self.cache.insert(sequence.tokens[:end], sequence.request.context.cache_salt, snapshot)
            if self.disk is not None and place is not None:
                self.disk.write(sequence, end, place)
        except MemoryError:
            log.warning(CACHE_OUT_OF_MEMORY)
        sequence.saved = end

    def remove(self, sequence: Sequence) -> None:
        """Remove a running sequence and free its slot.

        The sequence must not be in a running step.
        """
        assert sequence.slot is not None
        if sequence in self.prefilling:
            self.prefilling.remove(sequence)
            self.slots.release(sequence.slot)
        else:
            self._close_gap(sequence, sequence.slot)
        sequence.slot = None

    def return_to_prefill(self, sequence: Sequence) -> None:
        """Move a sequence from the decode batch to prefill, to compute forced tokens.

        A token is forced if the sequence's constraint allows no other. No decode step may be running.
        """
        assert sequence.slot is not None
        last = self.decoding.pop()
        if last is not sequence:
            assert last.slot is not None
            self.decoding[sequence.slot] = last
            self._swap_slots(sequence, last)
        sequence.prefill_total = sequence.remaining
        self.prefilling.append(sequence)

    def _close_gap(self, leaver: Sequence, slot: int) -> None:
        """Remove `leaver` from the decode batch. The last sequence takes its slot."""
        last = self.decoding.pop()
        if last is leaver:
            self.slots.release(slot)
            return
        self.slots.move(len(self.decoding), slot, last.computed)
        self.decoding[slot] = last
        last.slot = slot

    def _estimated_finish(self, sequence: Sequence) -> float:
        """Return when prefill would end if it had started at the time of the request.

        The result is in monotonic seconds.
        """
        return sequence.queued_at + self.costs.seconds(StepKind.PREFILL, self.policy.wide, sequence.remaining)

    def _remove_cancelled(self) -> None:
        for sequence in [s for s in self.between_steps if s.cancelled]:
            self.save(sequence)
            self.remove(sequence)
        self.suspended = [s for s in self.suspended if not s.cancelled]

    def _suspend(self) -> None:
        """Suspend sequences whose consumers do not keep up."""
        for sequence in [s for s in self.between_steps if s.backlog >= MAX_BACKLOG]:
            self.vacate(sequence)
            self.suspended.append(sequence)

    def _resume(self) -> None:
        """Queue suspended sequences whose consumers have caught up."""
        for sequence in [s for s in self.suspended if s.backlog <= RESUME_BACKLOG]:
            self.suspended.remove(sequence)
            self.waiting.requeue(sequence)

    def vacate(self, sequence: Sequence) -> None:
        """Save a sequence's state in the prefix cache and free its slot."""
        self.save(sequence)
        self.remove(sequence)
        sequence.reset_after_preemption()

    def admit(self) -> None:
        """Give free slots to waiting sequences, in the order of the queue."""
        while (sequence := self.waiting.peek()) is not None and self.free_slots and self.has_room(sequence):
            taken = {s.slot for s in self.prefilling}
            self.waiting.pop()
            # Take the last free slot: the decode batch grows from the front.
            sequence.slot = next(i for i in reversed(range(self.slots.n_slots)) if i not in taken)
            sequence.expected_cached = self._count_cached(sequence)
            if self.disk is not None:
                self.disk.look_up(sequence, self.costs.seconds(StepKind.PREFILL, self.policy.wide, sequence.remaining))
            self.prefilling.append(sequence)

    def has_room(self, sequence: Sequence, leavers: Collection[Sequence] = ()) -> bool:
        """Return whether a sequence may take a slot if `leavers` give up theirs."""
        finish = self._estimated_finish(sequence)
        unstarted = [s for s in self.prefilling if not s.prefill_started and s not in leavers]
        if sum(self._estimated_finish(s) <= finish for s in unstarted) >= MAX_UNSTARTED_PROMPTS:
            return False
        running = self.running - len(leavers)
        held = self.held_tokens - sum(s.length for s in leavers)
        return held + sequence.length + HEADROOM * running <= self.slot_tokens or not running

    def _count_cached(self, sequence: Sequence) -> int:
        """Return how many leading tokens of a sequence the prefix cache can supply.

        Returns 0 if the request wants log-probabilities of its prompt, which need every token computed.
        """
        if sequence.request.prompt_logprobs is not None:
            return 0
        return self.cache.count_cached(sequence.tokens[: sequence.length - 1], sequence.request.context.cache_salt)

    def _join_decode_batch(self) -> None:
        """Move sequences that are ready to decode to the end of the decode batch.

        Each takes the first slot after the batch. Stops if the sequence that occupies this slot is in a running step.
        """
        if self.decode_is_running:
            return
        for sequence in [s for s in self.prefilling if s.is_ready_to_decode and not s.in_step]:
            target = len(self.decoding)
            occupant = next((s for s in self.prefilling if s.slot == target), None)
            if occupant is not None and occupant is not sequence and occupant.in_step:
                return
            self._move_to_slot(sequence, target, occupant)
            self.prefilling.remove(sequence)
            self.decoding.append(sequence)

    def _move_to_slot(self, sequence: Sequence, target: int, occupant: Sequence | None) -> None:
        assert sequence.slot is not None
        if occupant is None:
            self.slots.move(sequence.slot, target, sequence.computed)
            sequence.slot = target
        elif occupant is not sequence:
            self._swap_slots(sequence, occupant)

    def _swap_slots(self, a: Sequence, b: Sequence) -> None:
        assert a.slot is not None
        assert b.slot is not None
        self.slots.swap(a.slot, b.slot, a.computed, b.computed)
        a.slot, b.slot = b.slot, a.slot
