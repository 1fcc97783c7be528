from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from server.errors import KernelsError
from server.runtime.native.library import Library, load_library
from tests.kernels.reference import Direct
from tests.kernels.remote import Remote, build_arm64, build_simde


@dataclass(frozen=True)
class Target:
    """An instruction set, and the fixture of a library that has it."""

    fixture: str
    isa: str


def _targets() -> Iterator[object]:
    try:
        here = list(load_library().isas)
    except KernelsError:
        here = ["portable"]
    for isa in here:
        yield pytest.param(Target("native", isa), id=isa)
    for fixture, isas in {"arm64": ("neon-i8mm", "neon-dotprod"), "simde": ("avx512-vnni", "avx-vnni")}.items():
        for isa in isas:
            yield pytest.param(Target(fixture, isa), id=f"{fixture}-{isa}", marks=pytest.mark.slow)


@pytest.fixture(scope="session")
def native() -> Library:
    """This machine's own library."""
    try:
        return load_library()
    except KernelsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def arm64_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    return build_arm64((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "arm64")


@pytest.fixture(scope="session")
def arm64(arm64_library: Path) -> Iterator[Library]:
    with Remote(arm64_library) as library:
        yield library


@pytest.fixture(scope="session")
def simde(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return build_simde(tmp_path_factory.mktemp("simde"))


@pytest.fixture(params=_targets())
def target(request: pytest.FixtureRequest) -> Target:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def isa(target: Target) -> str:
    """Each instruction set that this CPU runs or that can be emulated."""
    return target.isa


@pytest.fixture
def library(request: pytest.FixtureRequest) -> Library:
    """The library with the instruction set `isa`; this machine's own if the test has no `isa`."""
    has_isa = "target" in request.fixturenames
    fixture = request.getfixturevalue("target").fixture if has_isa else "native"
    return request.getfixturevalue(fixture)  # type: ignore[no-any-return]


@pytest.fixture
def direct(library: Library) -> Direct:
    return Direct(library)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
