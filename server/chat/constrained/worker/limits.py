"""Limits the work and memory of one grammar, in its worker and in the engine."""

from __future__ import annotations

from llguidance import LLParserLimits

CPU_SECONDS = 2.0  # CPU time of a worker
WALL_SECONDS = 15.0  # elapsed time of a worker; longer than the CPU time because the machine may be busy
ADDRESS_SPACE = 1 << 29  # bytes that a worker may add to the address space it starts with
STACK = 1 << 20  # bytes of a worker's stack, less than the stacks of the server's threads
TRIAL_MASK_SECONDS = 0.1  # CPU time of a mask in a worker; masks of real schemas take at most half of this
MASK_SECONDS = 0.25  # CPU time of a mask on the engine's thread; the limits below make longer masks very unlikely
GRAMMAR_BYTES = 32 << 20  # size of one compiled grammar, and of each copy that a sequence makes of it
CACHE_BYTES = 256 << 20  # size of all cached grammars together

# The units of the following limits are llguidance's. The cost of an Earley step grows with the number of items in a row
# of the parser, so the limit on a row is low. Only tools with many arguments need longer rows. Real schemas stay below
# all of these limits.
ROW_ITEMS = 500
ROW_ITEMS_PER_ARGUMENT = 4
STEP_ITEMS = 10_000
STEP_FUEL = 20_000
INITIAL_FUEL = 1_000_000  # for a compilation and its first mask, which never run on the engine's thread
LEXER_STATES = 10_000
GRAMMAR_SIZE = 200_000


def parser_limits(arguments: int) -> LLParserLimits:
    """Return llguidance's limits for a grammar.

    arguments: largest number of arguments of any one tool.
    """
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
