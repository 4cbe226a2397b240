"""Corrections of several people: nothing is overwritten, and the later sees the conflict."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from everymask.errors import InputError
from everymask.labels.correction import new_entry_id
from everymask.labels.correction_history import on_top, undo, untouched
from everymask.labels.correction_log import (
    CorrectionConflictError,
    CorrectionLog,
    compact,
    erase_corrections,
    read_history,
)
from everymask.labels.corrections import (
    corrected,
    labelled_images,
    read_corrections,
    survey,
    write_corrections,
)
from everymask.labels.rows import to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.labels.entries import IMAGE, entry
from tests.labels.examples import images


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    store = LabelStore(str(tmp_path))
    store.write_part(to_table(images(classes=True)))
    return store


def actions(store: LabelStore, image_id: str = IMAGE.image_id) -> list[str]:
    return [mask.action for mask in read_corrections(store)[image_id].masks]


def files(store: LabelStore) -> list[str]:
    return [file.name for file in store.corrections.entries()]


def test_an_entry_comes_back_as_it_was(store: LabelStore) -> None:
    made = entry("confirmed", "deleted")
    CorrectionLog(store, "ada").append([made])
    assert read_corrections(store) == {IMAGE.image_id: made}
    assert (made.finished, entry("kept", "deleted").finished) == (True, False)


def test_steps_follow_each_other_and_are_taken_back_one_by_one(store: LabelStore) -> None:
    log = CorrectionLog(store, "ada")
    steps = [("kept", "deleted"), ("confirmed", "deleted"), ("confirmed", "confirmed")]
    for at, step in enumerate(steps):
        log.append([on_top(entry(*step, at=at), log.history.heads(IMAGE.image_id))])
    assert actions(store) == ["confirmed", "confirmed"]
    for at, left in enumerate([*steps[-2::-1], ("kept", "kept")]):
        log.append([undo(log.history, IMAGE, "ada", f"2026-11-29T10:01:{at:02d}.000+00:00")])
        assert actions(store) == list(left)
    with pytest.raises(InputError, match="no correction that could be taken back"):
        undo(log.history, IMAGE, "ada", "2026-11-29T10:02:00.000+00:00")
    assert len(read_history(store).entries[IMAGE.image_id]) == 6
    # A new step after an undo, and that taken back.
    log.append([on_top(entry("deleted", "deleted", at=59), log.history.heads(IMAGE.image_id))])
    log.append([undo(log.history, IMAGE, "ada", "2026-11-29T10:03:00.000+00:00")])
    assert actions(store) == ["kept", "kept"]


def test_masks_that_nobody_judged_stay_as_the_model_left_them(store: LabelStore) -> None:
    assert IMAGE.labels is not None
    write_corrections(store, [entry("kept", "deleted")])
    found = corrected(IMAGE, read_corrections(store)).labels
    assert found is not None
    assert found.masks == IMAGE.labels.masks[:1]
    untouched_entry = replace(entry("kept", "kept"), masks=untouched(IMAGE))
    assert corrected(IMAGE, {IMAGE.image_id: untouched_entry}).labels == IMAGE.labels


def test_the_later_of_two_people_sees_what_the_other_did(store: LabelStore) -> None:
    ada, bob = CorrectionLog(store, "ada"), CorrectionLog(store, "bob")
    ada.refresh(), bob.refresh()
    first = entry("confirmed", "deleted")
    ada.append([first])
    second = replace(entry("deleted", "confirmed", at=1), annotator="bob")
    with pytest.raises(CorrectionConflictError, match=r"a/1\.jpg was corrected by ada in between") as conflict:
        bob.append([second])
    assert conflict.value.theirs == (first,)
    assert actions(store) == ["confirmed", "deleted"]
    bob.append([on_top(second, conflict.value.theirs)])
    assert actions(store) == ["deleted", "confirmed"]
    assert read_history(store).conflicts() == {}


def test_two_entries_of_one_moment_are_both_kept_and_listed(store: LabelStore) -> None:
    one, other = entry("confirmed", "deleted"), entry("deleted", "confirmed", at=1)
    CorrectionLog(store, "ada").keep([one])
    CorrectionLog(store, "bob").keep([other])
    assert read_corrections(store) == {IMAGE.image_id: other}
    assert read_history(store).conflicts() == {IMAGE.image_id: [one, other]}
    settled = on_top(entry("confirmed", "confirmed", at=2), [one, other])
    CorrectionLog(store, "ada").append([settled])
    assert read_history(store).conflicts() == {}


def _write(uri: str, image_id: str, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    write_corrections(LabelStore(uri), [replace(entry("confirmed", "deleted"), image_id=image_id)])


def test_imports_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        uri = str(tmp_path / str(attempt))
        barrier = context.Barrier(2)
        writers = [context.Process(target=_write, args=(uri, name, barrier)) for name in ("a", "b")]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert set(read_corrections(LabelStore(uri))) == {"a", "b"}


def test_a_file_that_was_moved_away_is_not_replaced_and_can_come_back(store: LabelStore, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_corrections(store, [replace(entry("confirmed", "deleted"), image_id=name)])
    first = store.corrections.entries()[0]
    aside = tmp_path / "moved-away.parquet"
    Path(first).rename(aside)
    write_corrections(store, [replace(entry("confirmed", "deleted"), image_id="c")])
    aside.rename(first)
    assert set(read_corrections(store)) == {"a", "b", "c"}


def test_putting_files_together_loses_nothing_wherever_it_is_killed(store: LabelStore) -> None:
    log = CorrectionLog(store, "ada")
    for at in range(4):
        log.append([on_top(entry("confirmed", "deleted", at=at), log.history.heads(IMAGE.image_id))])
    before = read_history(store)
    apart = {file.name: file.read() for file in store.corrections.entries()}
    compact(store)
    (together,) = files(store)
    assert together.startswith("base-")
    for count in range(len(apart) + 1):  # killed after the new file was written, and some of the old deleted
        for name, content in list(apart.items())[:count]:
            store.corrections.child(name).write(content)
        assert read_history(store) == before
    assert compact(store) is not None
    assert compact(store) is None
    log.append([on_top(entry("deleted", "deleted", at=9), log.history.heads(IMAGE.image_id))])
    assert actions(store) == ["deleted", "deleted"]


def test_a_step_that_was_confirmed_survives_kill_9(store: LabelStore) -> None:
    """The writer says so after each step, and is killed in the middle of the next ones."""
    script = """
import sys
from everymask.labels.correction_log import CorrectionLog
from everymask.labels.store import LabelStore
from tests.labels.entries import IMAGE, entry
from everymask.labels.correction_history import on_top
log = CorrectionLog(LabelStore(sys.argv[1]), "ada")
for step in range(10_000):
    made = on_top(entry("confirmed", "deleted", at=step % 60), log.history.heads(IMAGE.image_id))
    log.append([made])
    print(made.entry_id, flush=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", script, store.uri], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    said = [writer.stdout.readline().strip() for _ in range(5)]
    os.kill(writer.pid, signal.SIGKILL)
    said += writer.stdout.read().split()
    writer.wait()
    kept = [one.entry_id for one in read_history(store).entries[IMAGE.image_id]]
    assert set(said) <= set(kept)
    assert len(kept) <= len(said) + 1


def test_people_at_one_page_share_what_was_read_and_write_files_of_their_own(store: LabelStore) -> None:
    ada = CorrectionLog(store, "ada")
    ada.append([entry("confirmed", "deleted")])
    eve, elsewhere = ada.for_annotator("eve"), [CorrectionLog(store, name) for name in ("ada", "eve")]
    assert eve.history is ada.history
    for at, log in enumerate((eve, ada, eve, *elsewhere), start=1):
        log.refresh()
        log.append([on_top(entry("deleted", "deleted", at=at), log.history.heads(IMAGE.image_id))])
    written = [name.removeprefix("log-").removesuffix(".parquet").split("-") for name in files(store)]
    by_person: dict[str, list[str]] = {}
    for person, _, number in written:
        by_person.setdefault(person, []).append(number)
    assert sorted(map(sorted, by_person.values())) == [["000000", "000000", "000001"]] * 2
    assert len({run for _, run, _ in written}) == 4, "one run of a program for one person is one writer"


@pytest.mark.parametrize("corrections", [True, False])
def test_a_survey_of_some_images_counts_these_alone(store: LabelStore, corrections: bool) -> None:
    """One is labelled, one has an error, one has been corrected and has lost its row."""
    labelled, _, failed = images(classes=True)
    write_corrections(store, [replace(entry("confirmed", "deleted"), image_id="lost.jpg")])
    all_of_them = survey(store, corrections)
    assert sorted(all_of_them.labelled) == sorted(
        [*(one.image_id for one in images()[:2]), *["lost.jpg"] * corrections]
    )
    assert all_of_them.errors == 1
    for wanted in ([labelled.image_id], [failed.image_id], ["lost.jpg"], [failed.image_id, "lost.jpg"]):
        some = survey(store, corrections, frozenset(wanted))
        assert some.labelled == [one for one in all_of_them.labelled if one in wanted]
        assert some.errors == (failed.image_id in wanted)


def test_a_correction_of_another_file_is_kept_counted_and_not_shown(store: LabelStore) -> None:
    write_corrections(store, [entry("confirmed", "deleted")])
    changed = replace(IMAGE, content_sha256="ff" * 32, labels=ImageLabels((40, 60), (), 0.0))
    store.write_part(to_table([changed, *images(classes=True)[1:]]))
    shown = {image.image_id: labels for image, labels in labelled_images(store)}
    assert shown[IMAGE.image_id].masks == ()
    assert survey(store).stale == [IMAGE.image_id]
    assert set(read_corrections(store)) == {IMAGE.image_id}


@pytest.mark.parametrize("row_is", ["an error", "lost"])
def test_a_corrected_image_does_not_vanish_with_its_row(tmp_path: Path, row_is: str) -> None:
    store = LabelStore(str(tmp_path))
    others = images(classes=True)[1:]
    gone = replace(images()[2], image_id=IMAGE.image_id)
    write_corrections(store, [entry("confirmed", "deleted")])
    store.write_part(to_table([gone, *others] if row_is == "an error" else others))
    shown = {image.image_id: (image, labels) for image, labels in labelled_images(store)}
    image, labels = shown[IMAGE.image_id]
    assert IMAGE.labels is not None
    assert [mask.rle for mask in labels.masks] == [IMAGE.labels.masks[0].rle]
    assert (image.error, image.uri) == (None, gone.uri if row_is == "an error" else IMAGE.uri)
    assert 0 < labels.coverage < 1
    assert sorted(survey(store).labelled) == sorted(shown)
    assert survey(store).errors == 1


def test_erased_images_leave_no_entry_behind(store: LabelStore) -> None:
    other = replace(entry("confirmed", "confirmed"), image_id="other", entry_id=new_entry_id())
    write_corrections(store, [entry("confirmed", "deleted"), other])
    write_corrections(store, [replace(other, entry_id=new_entry_id())])
    assert erase_corrections(store, frozenset({IMAGE.image_id})) == 1
    assert set(read_corrections(store)) == {"other"}
    assert len(read_history(store).entries["other"]) == 2
