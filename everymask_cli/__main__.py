"""`python -m everymask_cli` runs the console command `everymask`."""

from __future__ import annotations

import sys

from everymask_cli.main import main

sys.exit(main())
