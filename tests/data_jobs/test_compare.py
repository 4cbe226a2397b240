"""What differs between two label stores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_jobs import compare
from everymask.evaluation.comparison import Changes, compare_classes, compare_labels
from everymask.labels.rows import to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.formats.shapes import shape_store
from tests.labels.examples import mask_record


def test_masks_are_kept_moved_renamed_lost_and_added() -> None:
    def box(x0: int, x1: int) -> Any:
        mask = np.zeros((20, 60), dtype=np.bool_)
        mask[5:15, x0:x1] = True
        return mask

    def labels(*masks: Any) -> ImageLabels:
        return ImageLabels((20, 60), masks, 0.0)

    before = labels(
        mask_record(box(0, 10), 0.9, 0),
        mask_record(box(12, 22), 0.8, 0),
        mask_record(box(24, 34), 0.7, 0),
        mask_record(box(36, 46), 0.6, 0),
    )
    after = labels(
        mask_record(box(0, 10), 0.5, 0),
        mask_record(box(12, 18), 0.5, 0),
        mask_record(box(24, 34), 0.5, 1),
        mask_record(box(48, 58), 0.5, 0),
    )
    changes = compare_labels(before, after)
    assert changes == Changes(same=1, moved=1, renamed=1, gone=1, new=1)
    assert changes.share == 0.8
    assert compare_classes(before, after) == {before.masks[0].class_name: changes}
    renamed = compare_classes(before, labels(mask_record(box(0, 10), 0.5, 1), mask_record(box(48, 58), 0.5, 1)))
    assert [found for _, found in sorted(renamed.items())] == [Changes(renamed=1, gone=3), Changes(new=1)]
    assert compare_labels(before, before) == Changes(same=4)
    nine_tenths, less = (labels(mask_record(box(0, end), 0.5, 0)) for end in (9, 8))
    one = labels(before.masks[0])
    assert (compare_labels(one, nine_tenths), compare_labels(one, less)) == (Changes(same=1), Changes(moved=1))
    assert compare_labels(labels(), after) == Changes(new=4)


def test_the_command_prints_counts_and_shows_what_differs(tmp_path: Path, capsys: Any) -> None:
    before = shape_store(tmp_path)
    rows = [
        replace(image, labels=replace(image.labels, masks=image.labels.masks[1:]))
        for image in before.images()
        if image.labels is not None and image.image_id != "none.png"
    ]
    after = LabelStore(str(tmp_path / "after"))
    after.write_part(to_table(rows))
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    words = ["--before", before.uri, "--after", after.uri, "--page", str(page), "--json", str(figures)]
    assert compare.command([*words, "--local-root", str(tmp_path / "pictures")]) == 0
    assert "2 images in both; 1 only before, 0 only after" in capsys.readouterr().out
    found = json.loads(figures.read_text())["masks"]["all"]
    assert found == {"same": 9, "moved": 0, "renamed": 0, "gone": 2, "new": 0}
    text = page.read_text()
    assert text.index("portrait.jpg") < text.index("shapes/all.png")
    assert text.count("data:image/jpeg") == 4


def test_stores_of_other_images_are_a_sentence(tmp_path: Path, capsys: Any) -> None:
    store = shape_store(tmp_path)
    other = LabelStore(str(tmp_path / "other"))
    other.write_part(to_table([replace(image, image_id=f"x/{image.image_id}") for image in store.images()]))
    assert compare.command(["--before", store.uri, "--after", other.uri]) == 2
    assert "have no labelled image in common" in capsys.readouterr().err
