"""An output is free or ours; what no run has made is never deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_jobs.labelling.output import OutputLock, clear, prepare
from everymask.errors import ConfigurationError, OutputError
from everymask.labels.provenance import RunRecord, write_run
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.sealing import seal_shard
from everymask.labels.store import LabelStore
from tests.labels.examples import images
from tests.labels.shard_files import write_shard


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


def a_run(folder: Path) -> LabelStore:
    store = LabelStore(str(folder))
    write_run(store, RunRecord({"method": "amg"}))
    store.write_part(to_table(images()), {"method": "amg"})
    store.preview.child("index.html").write(b"page")
    store.estimate_file.write(b"{}")
    put(folder, "labels/.part-0.parquet." + "0" * 32)
    seal_shard(store, write_shard(store, 0, [ImageRow("sealed", "/sealed", None, "lost")]), "0" * 64)
    write_shard(store, 1, [ImageRow("open", "/open", None, "lost")])
    store.listing_file.write(b"{}")
    return store


@pytest.mark.parametrize(
    "name", ["labels/train/1.txt", "preview/cat.jpg", "data.yaml", "run.json", "labels/part-1.parquet"]
)
def test_overwrite_refuses_by_name_what_no_run_has_made(tmp_path: Path, name: str) -> None:
    put(tmp_path, name)
    with pytest.raises(ConfigurationError, match=rf"{name}.*(nothing was touched|no record of a run)"):
        prepare(LabelStore(str(tmp_path)), overwrite=True)
    assert files(tmp_path) == [name]


def test_a_first_run_mixes_with_no_other_labels_or_previews(tmp_path: Path) -> None:
    put(tmp_path, "photo.jpg", "preview/index.html")
    with pytest.raises(ConfigurationError, match=r"holds preview/index\.html"):
        prepare(LabelStore(str(tmp_path)), overwrite=False)
    (tmp_path / "preview" / "index.html").unlink()
    prepare(LabelStore(str(tmp_path)), overwrite=False)
    assert files(tmp_path) == ["photo.jpg"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_absent_empty_and_barely_begun_outputs_are_free(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path / "begun", "checkpoint/lock", "checkpoint/pending/000000.parquet")
    for name in ("absent", "empty", "begun"):
        prepare(LabelStore(str(tmp_path / name)), overwrite)
        assert (tmp_path / name / "labels").is_dir()


def test_overwrite_deletes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    store = a_run(tmp_path)
    mine = ["labels/mine.parquet", "labels/train/1.txt", "notes.txt", "preview/mine.jpg", "shards/000001/mine"]
    put(tmp_path, *mine)
    prepare(store, overwrite=True)
    clear(store)
    assert files(tmp_path) == mine


def test_overwrite_is_refused_while_there_are_corrections(tmp_path: Path) -> None:
    store = a_run(tmp_path)
    put(tmp_path, "corrections/1.parquet", "corrections/mine.txt")
    before = files(tmp_path)
    with pytest.raises(ConfigurationError, match="holds corrections that people made"):
        prepare(store, overwrite=True)
    assert files(tmp_path) == before
    store.corrections.delete()
    prepare(store, overwrite=True)
    clear(store)
    assert files(tmp_path) == []


def test_a_run_that_goes_on_leaves_corrections_and_is_not_refused(tmp_path: Path) -> None:
    store = a_run(tmp_path)
    put(tmp_path, "corrections/1.parquet")
    before = files(tmp_path)
    prepare(store, overwrite=False)
    assert files(tmp_path) == before


def test_labels_whose_run_record_is_lost_are_taken_up_again(tmp_path: Path) -> None:
    store = a_run(tmp_path)
    (tmp_path / "run.json").write_text("")
    prepare(store, overwrite=False)
    (tmp_path / "run.json").unlink()
    prepare(store, overwrite=False)


def test_a_second_run_on_the_same_output_is_refused(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    prepare(store, overwrite=False)
    with OutputLock(store), pytest.raises(OutputError, match="another run is writing"), OutputLock(store):
        pass
    with OutputLock(store):
        pass
