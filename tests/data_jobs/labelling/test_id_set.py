"""The compact set answers as Python's own does."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_jobs.labelling.id_set import IdSet


@settings(max_examples=40)
@given(st.lists(st.sets(st.text(max_size=3), max_size=20), max_size=12), st.sets(st.text(max_size=3), max_size=20))
def test_it_equals_a_dict(batches: list[set[str]], asked: set[str]) -> None:
    known: dict[str, int] = {}
    compact = IdSet()
    for batch in batches:
        new = sorted(batch - known.keys())
        values = np.arange(len(known), len(known) + len(new), dtype=np.uint64)
        compact.add_all(new, values)
        known |= dict(zip(new, values.tolist(), strict=True))
    wanted = sorted(asked | known.keys())
    found, values = compact.find(wanted)
    assert len(compact) == len(known)
    assert found.tolist() == [name in known for name in wanted]
    assert values.tolist() == [known.get(name, 0) for name in wanted]
    assert all((name in compact) == (name in known) for name in asked)
