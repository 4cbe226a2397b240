"""Files that may have changed are read on the cluster, and what is found is what reading them here finds."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

import data_jobs.labelling.digests
from data_jobs.labelling.digests import read_here, read_on_workers
from data_jobs.labelling.inputs import ImageRef
from data_jobs.labelling.manifests import to_table
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_workers_read_what_the_driver_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        (tmp_path / f"{number}").write_bytes(b"x" * (number + 1))
    tables = [
        to_table([ImageRef(str(n), str(tmp_path / str(n))) for n in numbers]) for numbers in ((0, 1), (2, 9), (5,))
    ]
    read = partial(read_here, limits=ImageLimits(), policy=AddressPolicy(any_local_file=True))
    here = list(read(tables))
    assert here[1][1] is None

    def unread(*_: object, **__: object) -> pa.Table:
        raise AssertionError(f"read in the driver, process {os.getpid()}")

    monkeypatch.setattr(data_jobs.labelling.digests, "load_bytes", unread)
    monkeypatch.setattr(data_jobs.labelling.digests, "_AT_ONCE", 2)
    assert list(read_on_workers(tables, ImageLimits(), AddressPolicy(any_local_file=True))) == here
