"""Settings for all tests."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):  # the clients' environment goes without
    from hypothesis import settings

    # How long an example takes is the machine's business.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
