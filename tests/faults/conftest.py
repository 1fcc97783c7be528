"""Fixtures that start servers, from tests/http."""

from tests.http.conftest import _no_settings_from_outside, start_server, tiny_model

__all__ = ["_no_settings_from_outside", "start_server", "tiny_model"]
