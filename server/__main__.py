"""`python -m server` is `lfm-serve`."""

import sys

from server.cli import main

sys.exit(main())
