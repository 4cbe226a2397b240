"""The compact set answers as Python's own does."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_jobs.labelling.id_set import IdSet
from everymask.labels.id_digests import id_digests


@settings(max_examples=40)
@given(
    st.lists(st.sets(st.text(max_size=3), max_size=20), max_size=12),
    st.sets(st.text(max_size=3), max_size=20),
    st.sampled_from([1, 7, 30, 1000]),
)
def test_it_equals_a_dict_in_memory_and_on_the_disk(batches: list[set[str]], asked: set[str], in_memory: int) -> None:
    known: dict[str, int] = {}
    compact = IdSet(in_memory)
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


def test_few_ids_that_are_not_there_are_looked_for_on_the_disk() -> None:
    known = IdSet(in_memory=2000)
    known.add_all([f"{number}" for number in range(2000)])
    (run,) = known._runs
    strangers = [f"x{number}" for number in range(10_000)]
    assert run.may_have(*id_digests(strangers)).mean() < 0.02
    assert not known.find(strangers)[0].any()
