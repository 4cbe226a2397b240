"""What a person should look at first."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from data_jobs.review import QueueConfig
from everymask.errors import ConfigurationError, InputError
from everymask.labels.correction import ImageCorrection
from everymask.labels.correction_history import untouched
from everymask.labels.corrections import write_corrections
from everymask.labels.doubt import image_doubt, mask_doubt
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from everymask.review.queue import QueuedImage, make_queue, read_queue, write_queue
from tests.labels.examples import labels

NOTHING = ImageLabels((40, 60), (), 0.0)


def test_an_image_without_a_mask_is_as_doubtful_as_what_it_may_lack() -> None:
    assert image_doubt(NOTHING) == 1
    assert image_doubt(replace(NOTHING, missed=0.0)) == 0
    assert image_doubt(replace(NOTHING, missed=3.0)) == pytest.approx(0.75)


def test_more_to_mend_is_more_doubt() -> None:
    found = replace(labels(classes=True), missed=0.5)
    fewer = replace(found, masks=found.masks[:1])
    to_mend = sum(mask_doubt(mask) for mask in found.masks) + 0.5
    assert image_doubt(found) == pytest.approx(to_mend / (1 + to_mend))
    assert image_doubt(fewer) < image_doubt(found) < image_doubt(replace(found, missed=0.6)) < 1


def test_the_queue_shows_what_lacks_most_before_what_is_rightly_empty(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "labels"))
    missed = {"empty.jpg": 0.0, "doubtful.jpg": 4.0, "lacking.jpg": 9.0}
    store.write_part(to_table([ImageRow(name, name, replace(NOTHING, missed=value)) for name, value in missed.items()]))
    queue = make_queue(store, most=2, control=0.0)
    assert queue.image_ids == ("lacking.jpg", "doubtful.jpg")
    assert [image.missed for image in queue.images] == [9.0, 4.0]

    write_queue(queue, str(tmp_path / "queue.json"))
    assert read_queue(str(tmp_path / "queue.json")) == queue


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[" * 100_000,
        "\udcff",
        '{"images": 5}',
        '{"images": [5], "candidates": 1, "seed": 0}',
        json.dumps(
            {
                "images": [asdict(QueuedImage("a", "doubt", 0, 0, 0, 0, 1)) | {"image_id": [1]}],
                "candidates": 1,
                "seed": 0,
            }
        ),
    ],
)
def test_what_is_no_queue_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "queue.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="is no review queue"):
        read_queue(str(tmp_path / "queue.json"))


def test_the_queue_and_its_page_have_names_of_their_own() -> None:
    with pytest.raises(ConfigurationError, match=r"put beside it: give out/doubts\.json"):
        QueueConfig("labels", "out/doubts.html")
    names = {"queue.json": "queue.html", "s3://bucket/q.json": "s3://bucket/q.html", "a.b/queue": "a.b/queue.html"}
    assert {name: QueueConfig("labels", name).page for name in names} == names


def test_only_what_was_judged_whole_is_left_out_of_the_queue(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "labels"))
    found = labels(classes=True)
    rows = [ImageRow(name, name, found, content_sha256=name * 64) for name in "abcd"]
    store.write_part(to_table(rows))
    judged = {"a": "confirmed", "b": "kept", "c": "confirmed"}
    masks = {
        name: tuple(replace(mask, action=action) for mask in untouched(rows[0]))  # type: ignore[arg-type]
        for name, action in judged.items()
    }
    corrections = [
        ImageCorrection(name, "0" * 64 if name == "c" else name * 64, (40, 60), "x", None, None, "2026", masks[name])
        for name in judged
    ]
    write_corrections(store, corrections)
    assert sorted(make_queue(store, most=9, control=0.0).image_ids) == ["b", "c", "d"]


def test_the_queue_is_what_sorting_every_image_would_give_however_the_store_is_cut(tmp_path: Path) -> None:
    """With many equal doubts, and more images in a part than the queue takes."""
    rows = [ImageRow(f"{n:02d}.jpg", "x", replace(NOTHING, missed=float(n * 7 % 5))) for n in range(40)]
    stores = []
    for name, size in (("whole", 40), ("parts", 9)):
        stores.append(LabelStore(str(tmp_path / name)))
        for start in range(0, 40, size):
            stores[-1].write_part(to_table(rows[start : start + size]))
    everything = sorted(
        make_queue(stores[0], most=99, control=0.0).images, key=lambda one: (one.doubt, one.image_id), reverse=True
    )
    assert len(everything) == 40
    for store in stores:
        queue = make_queue(store, most=6, control=0.0)
        assert sorted(queue.image_ids) == sorted(image.image_id for image in everything[:6])
        assert queue.candidates == 40
    first, second = (make_queue(store, most=6, control=1.0) for store in stores)
    assert first == replace(second, labels=first.labels)
    assert {image.chosen for image in first.images} == {"random"}
    assert make_queue(stores[0], most=6, control=1.0, seed=1).image_ids != first.image_ids
