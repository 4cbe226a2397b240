"""Label maps hold what the masks say, pixel by pixel."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everymask.errors import ConfigurationError
from everymask.formats.label_png import class_map, entity_map
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.formats.exporting import run_export
from tests.labels.examples import labels, mask_record, ring_and_disc


def test_entity_files_are_16_bit_and_numbered_by_rank(entities: LabelStore, tmp_path: Path) -> None:
    run_export(entities, "entity-png", tmp_path / "maps")
    with Image.open(tmp_path / "maps" / "a" / "1.jpg.png") as image:
        assert image.mode == "I;16"
        found = np.asarray(image)
    ring, blobs = ring_and_disc()
    np.testing.assert_array_equal(found, ring + 2 * blobs.astype(np.uint16))
    assert np.asarray(Image.open(tmp_path / "maps" / "b" / "1.jpg.png")).shape == (7, 9)
    assert not (tmp_path / "maps" / "c.jpg.png").exists()


def test_numbers_beyond_8_bits_survive(tmp_path: Path) -> None:
    masks = []
    for pixel in range(400):
        mask = np.zeros((20, 20), bool)
        mask.flat[pixel] = True
        masks.append(mask_record(mask, 1 - pixel / 400))
    many = ImageLabels((20, 20), tuple(masks), 1.0)
    store = LabelStore(str(tmp_path / "store"))
    store.write_part(to_table([ImageRow("x.png", "x.png", many)]))
    run_export(store, "entity-png", tmp_path / "maps")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "maps" / "x.png.png")).ravel(), np.arange(1, 401))


def test_semantic_files_have_a_palette_and_a_list_of_classes(classes: LabelStore, tmp_path: Path) -> None:
    run_export(classes, "semantic-png", tmp_path / "maps")
    with Image.open(tmp_path / "maps" / "a" / "1.jpg.png") as image:
        assert image.mode == "P"
        found = np.asarray(image)
    ring, blobs = ring_and_disc()
    np.testing.assert_array_equal(found, ring + 2 * blobs.astype(np.uint8))
    listed = json.loads((tmp_path / "maps" / "classes.json").read_text())
    assert listed == {"0": "background", "1": "cat", "2": "dog"}


def test_grey_files_hold_the_same_without_a_palette(classes: LabelStore, tmp_path: Path) -> None:
    run_export(classes, "semantic-png", tmp_path / "grey", "grey")
    run_export(classes, "semantic-png", tmp_path / "palette")
    with Image.open(tmp_path / "grey" / "a" / "1.jpg.png") as grey:
        assert grey.mode == "L"
        with Image.open(tmp_path / "palette" / "a" / "1.jpg.png") as coloured:
            np.testing.assert_array_equal(np.asarray(grey), np.asarray(coloured))


def test_the_higher_score_wins_an_overlap() -> None:
    whole, corner = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    corner[:2, :2] = True
    both = ImageLabels((4, 4), (mask_record(corner, 0.9, 1), mask_record(whole, 0.8, 0)), 1.0)
    np.testing.assert_array_equal(class_map(both), np.where(corner, 2, 1))
    np.testing.assert_array_equal(entity_map(both), np.where(corner, 1, 2))


def test_entities_have_no_class_map(entities: LabelStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="have no classes; export them as entity-png"):
        run_export(entities, "semantic-png", tmp_path / "maps")


def test_a_class_that_does_not_fit_8_bits_is_refused() -> None:
    mask = replace(labels(classes=True).masks[0], class_id=255)
    with pytest.raises(ConfigurationError, match="holds 255 classes, not 256"):
        class_map(replace(labels(), masks=(mask,)))
