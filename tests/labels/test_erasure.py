"""An image that was erased is nowhere, and does not come back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data_jobs.labelling.inputs import ImageRef
from data_jobs.labelling.resume import settle_store, write_pending
from everymask.classes.embeddings import load_embeddings, write_embeddings
from everymask.labels.correction import new_entry_id
from everymask.labels.correction_log import read_history, write_corrections
from everymask.labels.erasure import erase
from everymask.labels.rows import to_table
from everymask.labels.sealing import seal_shard
from everymask.labels.shards import manifest_digest
from everymask.labels.store import LabelStore
from everymask_cli.main import main
from tests.classes.stored import CONFIG, record
from tests.classes.toy import picture
from tests.formats.exporting import run_export
from tests.labels.entries import entry
from tests.labels.examples import images
from tests.labels.shard_files import write_shard

GONE = "a/1.jpg"


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    store = LabelStore(str(tmp_path / "store"))
    rows = images(classes=True)
    store.write_part(to_table(rows[:2]))
    store.write_part(to_table(rows[2:]))
    other = replace(entry("confirmed", "deleted"), image_id="b/1.jpg", uri="/photos/b/1.jpg", entry_id=new_entry_id())
    write_corrections(store, [entry("confirmed", "deleted"), other])
    store.preview.child("index.html").write(b"pictures of it")
    store.preview.child("mine.txt").write(b"a file of somebody's")
    run_export(store, "coco", tmp_path / "export.json")
    run_export(store, "coco", tmp_path / "deleted.json")
    (tmp_path / "deleted.json").unlink()
    return store


def anywhere(folder: Path, text: bytes) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]


def test_nothing_of_an_erased_image_is_left_and_the_rest_is(store: LabelStore, tmp_path: Path) -> None:
    assert anywhere(Path(store.root), GONE.encode())
    done = erase(store, [GONE])
    assert (done.rows, done.correction_files) == (1, 1)
    assert anywhere(Path(store.root), GONE.encode()) == []
    assert sorted(image.image_id for image in store.images()) == ["b/1.jpg", "c.jpg"]
    assert set(read_history(store).entries) == {"b/1.jpg"}
    assert [file.name for file in store.preview.entries()] == ["mine.txt"]
    assert [(made.output, made.format) for made in done.exports] == [(str(tmp_path / "export.json"), "coco")]


def test_a_later_run_passes_it_over(store: LabelStore) -> None:
    erase(store, [GONE])
    listed = [ImageRef(name, f"/photos/{name}") for name in (GONE, "b/1.jpg", "c.jpg", "new.jpg")]
    pending = write_pending(store, listed, settle_store(store).ids)
    assert ([image.image_id for image in pending.manifest.read()], pending.listed) == (["new.jpg"], 3)


def test_the_command_names_what_it_cannot_reach_and_may_be_repeated(
    store: LabelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = str(tmp_path / "embeddings")
    records = [record(name, picture([("cherry", (2, 2, 20, 20))])) for name in (GONE, "b/1.jpg")]
    write_embeddings(kept, records, CONFIG)
    (tmp_path / "ids.txt").write_text(f"{GONE}\n")
    words = ["erase", "--labels", store.uri, "--image-ids", str(tmp_path / "ids.txt"), "--embeddings", kept]
    for gone in ("1 row, 1 mask embedding,", "0 rows, 0 mask embeddings,"):
        assert main(words) == 0
        said = capsys.readouterr().out
        assert f"1 image erased; gone are {gone}" in said
        assert f"may still hold them: {tmp_path / 'export.json'} (coco, made " in said
        assert "deleted.json" not in said
    assert [one.image_id for one in load_embeddings(kept)] == ["b/1.jpg"]


def test_an_id_that_the_store_does_not_have_is_refused_before_anything_goes(
    store: LabelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["erase", "--labels", store.uri, "--image-ids", GONE, "nowhere.jpg"]) == 2
    assert "has no image 'nowhere.jpg'; nothing was erased" in capsys.readouterr().err
    assert sorted(image.image_id for image in store.images()) == [GONE, "b/1.jpg", "c.jpg"]


@pytest.mark.parametrize("sealed", [True, False])
def test_an_image_of_a_shard_goes_with_its_line_in_the_manifest(tmp_path: Path, sealed: bool) -> None:
    store = LabelStore(str(tmp_path / "store"))
    shard = write_shard(store, 3, images())
    if sealed:
        seal_shard(store, shard, "0" * 64)
    assert erase(store, [GONE]).rows == 1
    assert anywhere(Path(store.root), GONE.encode()) == []
    assert sorted(image.image_id for image in store.images()) == ["b/1.jpg", "c.jpg"]
    seal = seal_shard(store, shard, "0" * 64)
    assert (seal.open, seal.counts.images) == (False, 2)
    assert seal.manifest_sha256 == manifest_digest(shard.manifest_files())
    assert erase(store, [GONE]).rows == 0


def test_lists_of_what_a_run_has_to_do_go_too(store: LabelStore) -> None:
    for name in ("pending", "changed"):
        store.checkpoint.child(name).child("images.parquet").write(GONE.encode())
    assert len(anywhere(Path(store.root) / "checkpoint", GONE.encode())) == 2
    erase(store, [GONE])
    assert anywhere(Path(store.root), GONE.encode()) == []


def test_a_record_of_an_export_that_cannot_be_read_hides_no_other(store: LabelStore, tmp_path: Path) -> None:
    for name, content in {"no json": b"{", "a list": b"[1]", "of another kind": b'{"colour": 1}'}.items():
        store.root.child("exports").child(f"{name}.json").write(content)
    assert [made.output for made in erase(store, [GONE]).exports] == [str(tmp_path / "export.json")]


def test_an_export_of_a_store_that_keeps_no_record_is_written(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "store"))
    store.write_part(to_table(images(classes=True)))
    (tmp_path / "store" / "exports").write_text("a file where the folder would be")
    assert run_export(store, "coco", tmp_path / "export.json").images == 2
    assert (tmp_path / "export.json").is_file()
