"""JSON in pieces is the JSON that it would be in one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.http.json_response import encode

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5), max_leaves=20
)


@given(value=values, repeats=st.integers(0, 200))
def test_pieces_make_the_same_json(value: object, repeats: int) -> None:
    whole = {"one": value, "many": [value] * repeats}
    expected = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    assert encode(whole) == expected.encode("utf-8", "surrogatepass")


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode([0.0] * 100 + [float("nan")])
