"""Settings for all tests."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# Every new HTTP client reads its certificate authorities: 40 ms of CPU time for the usual ones. The tests only connect
# to this machine, so a folder without any will do.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)

with contextlib.suppress(ImportError):  # not in the clients' environment
    from hypothesis import settings

    # No deadline for an example: tests do not depend on the speed of the machine.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
