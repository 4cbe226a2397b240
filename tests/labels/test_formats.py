"""A store of every format that a release has written is read, left as it is, and copied into today's."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_jobs.labelling.output import prepare
from everymask.errors import ConfigurationError, InputError
from everymask.labels.corrections import labelled_images, read_corrections
from everymask.labels.provenance import read_run
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.schema import FORMAT_VERSION, stored_schema
from everymask.labels.store import LabelStore
from everymask.labels.upgrade import upgrade
from everymask.records import Member
from everymask_cli.main import main
from tests.labels.examples import images

GOLDEN = Path(__file__).with_name("golden")
OLD = [1, 2, 3]
GIVEN = ["330a680940bdae2313ab0ca1", "06d4d29c5dc4372d09064fe0"]
MASK_IDS = {1: ["1310fe3dfdc969aea1f2259a", "db1906d8236bf74eacfbfd36"], 2: GIVEN, 3: GIVEN, 4: GIVEN}


def golden(version: int) -> LabelStore:
    return LabelStore(str(GOLDEN / f"format-{version}"))


def without_ids(image: ImageRow) -> ImageRow:
    if image.labels is None:
        return image
    masks = tuple(replace(mask, mask_id=None) for mask in image.labels.masks)
    return replace(image, labels=replace(image.labels, masks=masks))


def by_id(store: LabelStore) -> list[ImageRow]:
    return sorted(store.images(), key=lambda image: image.image_id)


def digests(store: LabelStore) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(store.root).rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("version", [*OLD, FORMAT_VERSION])
def test_a_store_of_each_format_is_read(version: int) -> None:
    """Its rows are those that were written, with the ids that masks had or would have had."""
    store = golden(version)
    expected = images(classes=True)
    first = expected[0]
    assert first.labels is not None
    if version >= 3:
        expected[0] = replace(first, labels=replace(first.labels, missed=1.5))
    if version >= 4:
        inside = Member("range", "b/1.jpg", 512, 100)
        listed = {"file_size": 100, "file_version": "mtime:1700000000000000000", "dhash": "00ff00ff00ff00ff"}
        expected[1] = replace(expected[1], member=inside, **listed)  # type: ignore[arg-type]
    found = by_id(store)
    assert [without_ids(image) for image in found] == [without_ids(image) for image in expected]
    assert found[0].labels is not None
    assert [mask.mask_id for mask in found[0].labels.masks] == MASK_IDS[version]
    assert store.format() == version
    record = read_run(store)
    assert record is not None
    assert (record.config["method"], record.attempts[0].labelled) == ("classes", 3)


def test_a_store_of_concepts_holds_presence_beside_the_scores() -> None:
    store = LabelStore(str(GOLDEN / "format-4-concepts"))
    named, nothing, failed = by_id(store)
    assert (store.format(), store.configuration()["class_names"]) == (4, ["cat", "dog"])
    assert named.labels is not None
    assert nothing.labels is not None
    assert named.labels.presence == (0.96875, 0.6875)
    assert [(mask.class_name, mask.score) for mask in named.labels.masks] == [("cat", 0.875), ("dog", 0.625)]
    assert (nothing.labels.masks, nothing.labels.presence) == ((), (0.03125, 0.0))
    assert (failed.labels, failed.error) == (None, "the file is empty (0 bytes)")


@pytest.mark.parametrize("version", [2, 3, FORMAT_VERSION])
def test_what_people_corrected_in_each_format_counts(version: int) -> None:
    (image_id, correction), *others = read_corrections(golden(version)).items()
    assert (image_id, others) == ("a/1.jpg", [])
    assert [(mask.action, mask.class_name) for mask in correction.masks] == [("relabelled", "dog"), ("deleted", "dog")]
    shown = {image.image_id: labels for image, labels in labelled_images(golden(version))}
    assert [(mask.class_name, mask.score) for mask in shown["a/1.jpg"].masks] == [("dog", 1.0)]


@pytest.mark.parametrize("version", OLD)
def test_an_older_store_is_not_changed_in_place(version: int, tmp_path: Path) -> None:
    shutil.copytree(golden(version).root, tmp_path / "store")
    store = LabelStore(str(tmp_path / "store"))
    before = digests(store)
    remedy = rf"has format {version}, .* `everymask upgrade --labels .*store --output NEW`"
    with pytest.raises(ConfigurationError, match=remedy):
        prepare(store, overwrite=False)
    for part in store.parts():
        with pytest.raises(ConfigurationError, match=remedy):
            store.keep_rows(part, [False, False])
    assert digests(store) == before


@pytest.mark.parametrize("version", OLD)
def test_an_upgrade_copies_rows_corrections_and_the_record(version: int, tmp_path: Path) -> None:
    store, copy = golden(version), LabelStore(str(tmp_path / "new"))
    before = digests(store)
    done = upgrade(store, copy)
    assert (done.before, done.counts) == (version, store.summary())
    assert by_id(copy) == by_id(store)
    shown, copied = ({image.image_id: labels for image, labels in labelled_images(one)} for one in (store, copy))
    assert copied == shown
    assert read_corrections(copy) == read_corrections(store)
    assert (read_run(copy), copy.format()) == (read_run(store), FORMAT_VERSION)
    assert all(pq.read_schema(part).remove_metadata().equals(stored_schema()) for part in copy.parts())
    assert digests(store) == before
    with pytest.raises(ConfigurationError, match=r"holds run\.json already"):
        upgrade(store, copy)
    with pytest.raises(ConfigurationError, match=f"has format {FORMAT_VERSION} already"):
        upgrade(copy, LabelStore(str(tmp_path / "again")))


@pytest.mark.parametrize("version", OLD)
def test_an_upgrade_writes_the_record_that_was_lost(version: int, tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "old"))
    shutil.copytree(golden(version).uri, store.uri)
    store.run_file.delete()
    configuration = store.configuration()
    copy = LabelStore(str(tmp_path / "new"))
    upgrade(store, copy)
    record = read_run(copy)
    assert record is not None
    assert (record.config, record.counts) == (configuration, store.summary())
    assert bool(configuration) == (version > 1), "the first format's parts do not hold it"


def test_an_upgrade_that_was_killed_is_no_store_and_goes_on(tmp_path: Path) -> None:
    store, copy = golden(3), LabelStore(str(tmp_path / "new"))

    def killed(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upgrade(store, copy, killed)
    assert not copy.exists()
    upgrade(store, copy)
    assert by_id(copy) == by_id(store)


def test_a_place_with_other_files_is_not_filled(tmp_path: Path) -> None:
    (tmp_path / "new" / "labels").mkdir(parents=True)
    (tmp_path / "new" / "labels" / "mine.parquet").write_bytes(b"mine")
    with pytest.raises(ConfigurationError, match=r"holds labels/mine\.parquet already"):
        upgrade(golden(3), LabelStore(str(tmp_path / "new")))
    with pytest.raises(InputError, match="is not a label store"):
        upgrade(LabelStore(str(tmp_path / "nothing")), LabelStore(str(tmp_path / "other")))


def test_a_newer_store_is_one_sentence(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    store.write_part(to_table(images()))
    (part,) = store.parts()
    newer = {b"everymask": json.dumps({"format": 5, "images": 3, "errors": 1, "masks": 2, "seconds": 0.75})}
    pq.write_table(pq.read_table(part).replace_schema_metadata(newer), part)
    with pytest.raises(ConfigurationError, match="has format 5; this everymask reads up to 4: upgrade it"):
        list(store.images())


def test_ids_with_line_breaks_have_parts_of_their_own(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    rows = {name: replace(images()[1], image_id=name) for name in ("a", "b", "a\nb")}
    store.write_part(to_table([rows["a"], rows["b"]]))
    store.write_part(to_table([rows["a\nb"]]))
    assert {image.image_id for image in store.images()} == set(rows)


def test_the_command_copies_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "new"
    assert main(["upgrade", "--labels", str(golden(2).root), "--output", str(new)]) == 0
    assert f"{new} has format 4: 3 images, 2 masks, 2 corrections of " in capsys.readouterr().out
    assert main(["upgrade", "--labels", str(new), "--output", str(tmp_path / "again")]) == 2
    assert "has format 4 already" in capsys.readouterr().err
