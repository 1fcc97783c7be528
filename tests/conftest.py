"""Settings for all tests."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# Every new HTTP client reads its certificate authorities: 40 ms of CPU time for the usual ones. The tests only connect
# to this machine, so a folder without any will do.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)

with contextlib.suppress(ImportError):  # the clients' environment goes without
    from hypothesis import settings

    # How long an example takes is the machine's business.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
