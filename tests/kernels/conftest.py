from __future__ import annotations

import numpy as np
import pytest

from server.errors import KernelsError
from server.runtime.native.library import Library, load_library
from tests.kernels.reference import Direct


def _isas() -> list[str]:
    try:
        return list(load_library().isas)
    except KernelsError:
        return ["portable"]


@pytest.fixture(scope="session")
def library() -> Library:
    try:
        return load_library()
    except KernelsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def direct(library: Library) -> Direct:
    return Direct(library)


@pytest.fixture(params=_isas())
def isa(request: pytest.FixtureRequest, library: Library) -> str:
    """Each instruction set that this CPU runs."""
    return str(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
