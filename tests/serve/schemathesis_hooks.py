"""Loaded by schemathesis (SCHEMATHESIS_HOOKS): what a string of format `binary` is here."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st

from tests.serve.pictures import picture_file

schemathesis.openapi.format("binary", st.sampled_from([picture_file(seed, (24, 16)) for seed in range(3)]))
