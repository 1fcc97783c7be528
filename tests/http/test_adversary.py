"""Random weights at a high temperature against dozens of schemas, in every way that an answer is held to one."""

from __future__ import annotations

from benchmarks.adversary import Way, make_cases, run
from benchmarks.random_schemas import random_tools, tools_of_file
from tests.serving import Server

SEED = 4
TOOLS = 20  # of each kind


async def test_every_finished_answer_is_valid_and_every_cut_one_is_a_valid_beginning(tiny: Server) -> None:
    real = tools_of_file()
    tools = [*real[:: len(real) // TOOLS], *random_tools(TOOLS, SEED)]
    cases = make_cases(tools, list(Way), SEED)[::3]
    assert {case.way for case in cases} == set(Way)
    tallies = await run(tiny.url, cases, streams=4)
    for way, tally in tallies.items():
        assert not tally.faults
        assert not tally.refused
        assert way is Way.CUT or tally.finished
