"""The last line of a job."""

from __future__ import annotations

from pathlib import Path

from data_jobs.labelling.failures import failures_line
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from tests.labels.examples import images


def test_it_names_three_images_that_failed_and_why(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    store.write_part(to_table(images()[:2]))
    assert failures_line(store, store.summary()) == ""
    for name in "de":
        store.write_part(to_table([ImageRow(f"{name}{number}", "x", None, f"{name} is broken") for number in (0, 1)]))
    line = failures_line(store, store.summary())
    assert line.startswith("4 errors: ")
    assert line.endswith("; and 1 more")
    assert line.count(" is broken") == 3


def test_one_error_is_one(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    store.write_part(to_table(images()))
    assert failures_line(store, store.summary()) == "1 error: c.jpg: the file is empty (0 bytes)"
