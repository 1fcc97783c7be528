"""Limits on the work and memory that one grammar may take, in its worker and later on the engine's thread."""

from __future__ import annotations

from llguidance import LLParserLimits

CPU_SECONDS = 2.0  # of a worker: analysis, compilation and trial together
WALL_SECONDS = 15.0  # of a worker on a busy machine
ADDRESS_SPACE = 1 << 29  # bytes that a worker may add to the address space it starts with
STACK = 1 << 20  # bytes of a worker's stack, less than the stacks of the server's threads
TRIAL_MASK_SECONDS = 0.1  # of CPU time per mask in a worker; those of real schemas take up to half of it
MASK_SECONDS = 0.25  # of CPU time per mask on the engine's thread, which the limits below all but rule out
GRAMMAR_BYTES = 32 << 20  # of one compiled grammar, and of one sequence's copy of it
CACHE_BYTES = 256 << 20  # of all cached grammars

# llguidance counts these in units of its own. An Earley step costs up to the number of items in its row, so rows are
# short; only the arguments of a large tool need longer ones. Real schemas stay below all of these.
ROW_ITEMS = 500
ROW_ITEMS_PER_ARGUMENT = 3
STEP_ITEMS = 10_000
STEP_FUEL = 20_000
INITIAL_FUEL = 1_000_000  # spent by a compilation and its first mask, never on the engine's thread
LEXER_STATES = 10_000
GRAMMAR_SIZE = 200_000


def parser_limits(arguments: int) -> LLParserLimits:
    """Return llguidance's limits for a grammar whose largest tool has this number of arguments."""
    row = max(ROW_ITEMS, ROW_ITEMS_PER_ARGUMENT * arguments)
    return LLParserLimits(
        max_items_in_row=row,
        initial_lexer_fuel=INITIAL_FUEL,
        step_lexer_fuel=STEP_FUEL,
        step_max_items=max(STEP_ITEMS, 4 * row),
        max_lexer_states=LEXER_STATES,
        max_grammar_size=GRAMMAR_SIZE,
        verbose_errors=False,
    )
