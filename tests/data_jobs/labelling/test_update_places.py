"""Where a run with `--update` labels, and when its labels take the place of the former ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_jobs.label_dataset import command as label
from data_jobs.labelling.output import prepare
from data_jobs.labelling.update import finish_begun, place_of_labels, take_over
from everymask.errors import ConfigurationError
from everymask.labels.correction_log import CorrectionLog, read_history
from everymask.labels.corrections import labelled_images
from everymask.labels.erasure import erase, erased_digests, id_digest
from everymask.labels.provenance import RunRecord, read_run, write_run
from everymask.labels.rows import to_table
from everymask.labels.store import LabelStore
from everymask.labels.updating import is_begun, is_switched, switch, update_of
from tests.labels.entries import entry
from tests.labels.examples import images

BEFORE: dict[str, Any] = {"method": "classes", "class_names": ["cat", "dog"], "head_sha256": "a"}
NOW = BEFORE | {"head_sha256": "b"}


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    """Three images, one of them corrected."""
    store = LabelStore(str(tmp_path / "store"))
    prepare(store, overwrite=False)
    write_run(store, RunRecord(BEFORE))
    store.write_part(to_table(images(classes=True)), BEFORE)
    CorrectionLog(store, "ada").keep([entry("confirmed", "deleted")])
    return store


def update(store: LabelStore, kept: int = 3) -> LabelStore:
    """The same rows, made by another head."""
    place = place_of_labels(store, lambda: NOW)
    write_run(place, RunRecord(NOW))
    place.write_part(to_table([replace(row, seconds=9.0) for row in images(classes=True)[:kept]]), NOW)
    return place


def test_labels_are_made_anew_beside_those_that_count_until_they_are_complete(
    store: LabelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    place = update(store)
    assert place.uri == update_of(store).uri
    assert {row.seconds for row in store.images()} == {0.5, 0.25, 0.0}
    take_over(store)
    assert {row.seconds for row in store.images()} == {9.0}
    assert not is_begun(store)
    assert place_of_labels(store, lambda: NOW).uri == store.uri
    assert "the corrections of 1 image were carried over" not in capsys.readouterr().out  # its masks have not changed


def test_what_a_kill_left_of_an_update_that_is_in_place_is_deleted(store: LabelStore) -> None:
    update(store)
    write_run(store, RunRecord(NOW))
    assert place_of_labels(store, lambda: NOW).uri == store.uri
    assert not is_begun(store)


def test_an_image_that_is_not_in_the_input_any_more_keeps_the_labels_as_they_were(store: LabelStore) -> None:
    update(store, kept=1)
    with pytest.raises(ConfigurationError, match=r"2 images of .* are not in the input any more \(b/1\.jpg, c\.jpg\)"):
        take_over(store)
    assert {row.seconds for row in store.images()} == {0.5, 0.25, 0.0}
    erase(store, ["b/1.jpg", "c.jpg"])
    take_over(store)
    assert [row.seconds for row in store.images()] == [9.0]
    assert id_digest("c.jpg") in erased_digests(store)


def test_a_kill_while_they_are_put_in_place_is_made_good_by_the_next_run(store: LabelStore) -> None:
    place = update(store)
    row = images(classes=True)[0]
    assert row.labels is not None
    fewer = replace(row, labels=replace(row.labels, masks=row.labels.masks[1:]), seconds=9.0)
    (part,) = place.parts()
    part.delete()
    place.write_part(to_table([fewer, *images(classes=True)[1:]]), NOW)
    switch(store)
    finish_begun(store)
    assert not is_switched(store)
    shown = {image.image_id: labels for image, labels in labelled_images(store)}["a/1.jpg"]
    assert [(mask.class_name, mask.score) for mask in shown.masks] == [("cat", 1.0)]
    assert [head.tool for head in read_history(store).heads("a/1.jpg")] == ["update"]
    record = read_run(store)
    assert record is not None
    assert record.config == NOW


def test_corrections_of_classes_are_not_carried_over_to_entities(store: LabelStore) -> None:
    with pytest.raises(ConfigurationError, match="people corrected classes here"):
        place_of_labels(store, lambda: {"method": "amg", "class_names": None})
    assert not is_begun(store)


def test_a_store_that_holds_nothing_is_labelled_as_without_it(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path))
    assert place_of_labels(store, dict).uri == store.uri


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--overwrite"], "--update carries corrections over, --overwrite starts from nothing; choose one"),
        (["--shard", "1/2"], "--update with --shard would leave the corrections of all shares"),
    ],
)
def test_what_contradicts_it_is_refused(options: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert label(["--input", "in", "--output", "out", "--update", *options]) == 2
    assert problem in capsys.readouterr().err
