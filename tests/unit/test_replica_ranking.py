"""The choice of a replica: a pure function, without a cluster."""

from __future__ import annotations

import pytest

from server.ray.ranking import MAX_LEAD, ReplicaLoad, rank


def load(prefix: int = 0, ongoing: int = 0, slots: int = 8, token: float = 0.001, request: float = 1.0) -> ReplicaLoad:
    return ReplicaLoad(prefix, ongoing, slots, token, request)


def test_the_longest_prefix_comes_first_and_the_others_by_load() -> None:
    assert rank([load(0, 1), load(640, 2), load(64, 0)], MAX_LEAD) == [1, 2, 0]


def test_without_a_prefix_the_least_loaded_comes_first() -> None:
    assert rank([load(0, 3), load(0, 1), load(0, 2)], MAX_LEAD) == [1, 2, 0]


def test_equal_prefixes_are_decided_by_load() -> None:
    assert rank([load(640, 3), load(640, 1)], MAX_LEAD) == [1, 0]


def test_equal_loads_are_decided_by_the_prefix() -> None:
    assert rank([load(0, 1), load(640, 1)], MAX_LEAD) == [1, 0]


@pytest.mark.parametrize(("ongoing", "best"), [(4, 0), (5, 1)])
def test_a_favourite_that_is_too_far_ahead_is_passed_over(ongoing: int, best: int) -> None:
    assert rank([load(6400, ongoing), load()], MAX_LEAD)[0] == best


@pytest.mark.parametrize(("prefix", "best"), [(640, 1), (3200, 0)])
def test_a_favourite_is_waited_for_only_if_its_prefix_saves_more(prefix: int, best: int) -> None:
    full = load(prefix, ongoing=2, slots=2)  # the next request waits a second; 1,000 tokens take as long
    assert rank([full, load()], MAX_LEAD)[0] == best


def test_no_replicas_have_no_order() -> None:
    assert rank([], MAX_LEAD) == []
