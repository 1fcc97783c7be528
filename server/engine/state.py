"""Who waits, who prefills, who decodes, and which slot is whose. Changed only under the engine's lock.

Decoding sequences occupy slots 0..n-1 in order, so that a decode batch is a view of the front; prefilling ones sit
behind them. Between steps a leaver's place is taken by the last of the batch, and a finished prompt moves to its end.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from server.engine.schedule import Load, StepKind
from server.engine.sequence import Sequence
from server.runtime.slots import SlotPool


@dataclass(slots=True)
class EngineState:
    """Every sequence is in exactly one of `waiting`, `prefilling`, `decoding`; `decoding[i]` has slot i."""

    slots: SlotPool
    waiting: deque[Sequence] = field(default_factory=deque)
    prefilling: list[Sequence] = field(default_factory=list)
    decoding: list[Sequence] = field(default_factory=list)
    decode_in_flight: bool = False
    last: StepKind | None = None

    @property
    def running(self) -> int:
        return len(self.prefilling) + len(self.decoding)

    @property
    def free_slots(self) -> int:
        return self.slots.n_slots - self.running

    def settle(self) -> None:
        """Bring everything that is not in flight in order: the cancelled leave, the waiting enter, the ready join."""
        self._drop_cancelled()
        self._admit()
        self._join_decode_batch()

    def load(self) -> Load:
        """What the scheduler is to choose from; `Load.prompt_tokens` goes with `prompts()`."""
        return Load(
            decoding=0 if self.decode_in_flight else len(self.decoding),
            prompt_tokens=tuple(s.remaining for s in self.prompts()),
            last=self.last,
        )

    def prompts(self) -> list[Sequence]:
        """Sequences with prompt left that no session works on, in order of arrival."""
        return [s for s in self.prefilling if not s.in_flight and not is_ready(s)]

    def leave(self, sequence: Sequence) -> None:
        """Take out a sequence that is not in flight and free its slot."""
        assert sequence.slot is not None
        if sequence in self.prefilling:
            self.prefilling.remove(sequence)
            self.slots.release(sequence.slot)
        else:
            self._close_gap(sequence, sequence.slot)
        sequence.slot = None

    def _close_gap(self, leaver: Sequence, slot: int) -> None:
        """The last of the decode batch takes the leaver's place."""
        last = self.decoding.pop()
        if last is leaver:
            self.slots.release(slot)
            return
        self.slots.move(len(self.decoding), slot, last.computed)
        self.decoding[slot] = last
        last.slot = slot

    def _drop_cancelled(self) -> None:
        if any(s.cancelled for s in self.waiting):
            self.waiting = deque(s for s in self.waiting if not s.cancelled)
        for sequence in [s for s in (*self.prefilling, *self.decoding) if s.cancelled and not s.in_flight]:
            self.leave(sequence)

    def _admit(self) -> None:
        while self.waiting and self.free_slots:
            taken = {s.slot for s in self.prefilling}
            # From the back: the front is where the decode batch grows.
            slot = next(i for i in reversed(range(self.slots.n_slots)) if i not in taken)
            sequence = self.waiting.popleft()
            self.slots.clear(slot)
            sequence.slot = slot
            self.prefilling.append(sequence)

    def _join_decode_batch(self) -> None:
        """Move sequences whose prompt is done to the end of the batch, unless a session works in that place."""
        if self.decode_in_flight:
            return
        for sequence in [s for s in self.prefilling if is_ready(s) and not s.in_flight]:
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
        elif occupant is not sequence:
            self.slots.swap(sequence.slot, target, max(sequence.computed, occupant.computed))
            occupant.slot = sequence.slot
        sequence.slot = target


def is_ready(sequence: Sequence) -> bool:
    """Whether the prompt is done and the first token drawn."""
    return sequence.generated > 0
