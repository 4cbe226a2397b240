from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import ray
from numpy.typing import NDArray
from PIL import Image

from data_jobs.evaluate import stored
from data_jobs.evaluation.click_figures import measure_clicks
from data_jobs.evaluation.config import (
    ClickedPictures,
    ClicksConfig,
    EntitiesConfig,
    EntityFiguresOptions,
    StoredConfig,
)
from data_jobs.evaluation.figures import table
from data_jobs.evaluation.stored_labels import measure_store
from data_jobs.evaluation.tables import measure_table
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.errors import ConfigurationError, InputError
from everymask.labels.corrections import CorrectedMask, ImageCorrection, write_corrections
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.rle import encode_mask
from tests.evaluation.labels import labels
from tests.tiny_sam import write_tiny_checkpoint

SIZE = (10, 20)


def box(x0: int, x1: int) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[:, x0:x1] = True
    return mask


@pytest.fixture
def panoptic(tmp_path: Path) -> Path:
    """Ground truth of one image in two halves."""
    folder = tmp_path / "truth"
    (folder / "panoptic").mkdir(parents=True)
    rgb = np.zeros((*SIZE, 3), dtype=np.uint8)
    rgb[:, :10, 0], rgb[:, 10:, 0] = 1, 2
    Image.fromarray(rgb).save(folder / "panoptic" / "a.png")
    segments = [{"id": 1, "iscrowd": 0}, {"id": 2, "iscrowd": 0}]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
    }
    (folder / "panoptic.json").write_text(json.dumps(content))
    return folder


def store(tmp_path: Path, **images: Sequence[NDArray[np.uint8]]) -> str:
    place = LabelStore(str(tmp_path / "labels"))
    rows = [
        ImageRow(
            f"sub/{name}.jpg",
            f"/data/sub/{name}.jpg",
            found if not isinstance(found, str) else None,
            found if isinstance(found, str) else None,
        )
        for name, found in images.items()
    ]
    place.write_part(to_table(rows))
    return place.uri


def test_a_label_store_is_measured_by_file_name_and_failed_images_found_nothing(tmp_path: Path, panoptic: Path) -> None:
    uri = store(tmp_path, a=labels([box(0, 10), box(10, 20)], [0.9, 0.8], SIZE))
    assert measure_store(StoredConfig(path=panoptic, labels=uri))[uri]["ap"] == pytest.approx(1.0)


def test_a_failed_image_found_nothing(tmp_path: Path, panoptic: Path) -> None:
    uri = store(tmp_path, a="not an image")
    figures = measure_store(StoredConfig(path=panoptic, labels=uri))[uri]
    assert (figures["ap"], figures["images"]) == (0.0, 1)


def test_what_people_corrected_is_measured_unless_the_machines_labels_are_wanted(
    tmp_path: Path, panoptic: Path
) -> None:
    uri = store(tmp_path, a=labels([box(0, 10)], [0.9], SIZE))
    before = measure_store(StoredConfig(path=panoptic, labels=uri))[uri]["ap"]
    halves = [encode_mask(box(0, 10)), encode_mask(box(10, 20))]
    masks = tuple(CorrectedMask("added", f"{n:024x}", None, rle, None, None, None) for n, rle in enumerate(halves))
    corrections = [ImageCorrection("sub/a.jpg", None, SIZE, "coco", None, None, "2026-11-29T12:00:00Z", masks)]
    write_corrections(LabelStore(uri), corrections)
    assert measure_store(StoredConfig(path=panoptic, labels=uri))[uri]["ap"] == pytest.approx(1.0)
    uncorrected = measure_store(StoredConfig(path=panoptic, labels=uri, uncorrected=True))[uri]["ap"]
    assert uncorrected == before < 0.6


def test_overlapping_labels_are_refused_unless_resolved(tmp_path: Path, panoptic: Path) -> None:
    uri = store(tmp_path, a=labels([box(0, 10), box(0, 20)], [0.9, 0.8], SIZE))
    with pytest.raises(InputError, match=r"masks of a\.jpg overlap in 100 pixels"):
        measure_store(StoredConfig(path=panoptic, labels=uri))
    resolved = measure_store(StoredConfig(path=panoptic, labels=uri, overlaps="resolve"))
    assert resolved[uri]["ap"] == pytest.approx(1.0)


def test_covering_of_human_segmentations(tmp_path: Path) -> None:
    folder = tmp_path / "bsds"
    (folder / "segments").mkdir(parents=True)
    halves = np.repeat([[0, 1]], 10, axis=1).repeat(10, axis=0)
    Image.fromarray(halves.astype(np.uint16)).save(folder / "segments" / "a_0.png")
    uri = store(tmp_path, a=labels([box(0, 10)], [0.9], SIZE))
    assert measure_store(StoredConfig(path=folder, labels=uri, ground_truth="bsds"))[uri]["mean"] == pytest.approx(0.5)


def test_the_command_prints_a_table_and_writes_json(
    tmp_path: Path, panoptic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = store(tmp_path, a=labels([box(0, 10)], [0.9], SIZE))
    out = tmp_path / "figures.json"
    assert stored(["--labels", uri, "--path", str(panoptic), "--json", str(out)]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert figures[uri]["entities"] == 2
    printed, _, following = capsys.readouterr().out.strip().rpartition("\nnext: ")
    assert printed.strip() == table(figures).strip()
    assert following == f"everymask browse {uri}"


def test_usage_errors_exit_2_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stored(["--labels", str(tmp_path), "--path", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_the_ablation_measures_every_combination_of_modules(tmp_path: Path, panoptic: Path) -> None:
    (panoptic / "images").mkdir()
    noise = np.random.default_rng(0).integers(256, size=(*SIZE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(panoptic / "images" / "a.jpg")
    small = EntityConfig(points_per_side=2, gallery_points_per_side=3)
    config = EntitiesConfig(
        path=panoptic,
        models=("vit_b",),
        checkpoint=str(write_tiny_checkpoint(tmp_path)),
        device="cpu",
        entities=small,
        amg=AmgConfig(points_per_side=2),
        workers=1,
    )
    rows = measure_table(config)
    assert list(rows) == [
        *("AMG, overlaps resolved", "AMG, overlaps kept", "object level", "no module", "USR", "EMR", "EMR + USR"),
        *("MMG", "MMG + USR", "MMG + EMR", "MMG + EMR + USR"),
    ]
    assert all(row["images"] == 1 for row in rows.values())


def test_an_annotated_image_that_is_not_there_is_named(panoptic: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"a\.jpg is annotated but not there"):
        measure_table(EntitiesConfig(path=panoptic, models=("vit_b",), device="cpu", workers=1))


def test_clicks_measure_the_model_beside_the_baseline(tmp_path: Path, panoptic: Path) -> None:
    large = (160, 320)
    rgb = np.zeros((*large, 3), dtype=np.uint8)
    rgb[:, :160, 0], rgb[:, 160:, 0] = 1, 2
    Image.fromarray(rgb).save(panoptic / "panoptic" / "a.png")
    halves = np.full((*large, 3), (200, 60, 40), dtype=np.uint8)
    halves[:, 160:] = (30, 90, 200)
    (panoptic / "images").mkdir()
    Image.fromarray(halves).save(panoptic / "images" / "a.jpg", quality=95)
    figures = measure_clicks(ClicksConfig(ClickedPictures(panoptic)))
    assert set(figures) == {"nano", "felzenszwalb"}
    assert all(row["clicks"] == 2 and row["best"] > 0.9 for row in figures.values())
    assert figures["nano"]["top"] > 0.9


@pytest.fixture
def halves(panoptic: Path) -> Path:
    """The pictures of the ground truth, in two colours."""
    image = np.full((*SIZE, 3), (200, 60, 40), dtype=np.uint8)
    image[:, 10:] = (30, 90, 200)
    (panoptic / "images").mkdir()
    Image.fromarray(image).save(panoptic / "images" / "a.jpg", quality=95)
    return panoptic


SMALL = {
    "entities": EntityConfig(points_per_side=4, gallery_points_per_side=4),
    "amg": AmgConfig(points_per_side=4),
    "models": ("oracle",),
    "oracle": "exact",
    "workers": 1,
    "entity_figures": EntityFiguresOptions(bootstrap=0),
}


def test_the_oracle_finds_what_is_annotated_with_both_scores(halves: Path) -> None:
    rows = measure_table(EntitiesConfig(path=halves, table=1, **SMALL))
    assert list(rows) == ["AMG, overlaps resolved", "AMG, overlaps kept", "object level", "E-SAM"]
    for row in rows.values():
        assert row["ap"] == pytest.approx(1.0)
        assert row["ap_iou"] == pytest.approx(1.0)
        assert "ap_low" not in row


def test_table_4_has_a_row_for_each_value(halves: Path) -> None:
    rows = measure_table(EntitiesConfig(path=halves, table=4, **SMALL))
    assert len(rows) == 5 * 4 + 4
    assert {"θ_O 0.7", "ρ 0.5", "16/64 points"} <= set(rows)


def test_entityseg_is_measured_from_its_json(tmp_path: Path, halves: Path) -> None:
    left = [[0.0, 0.0, 10.0, 0.0, 10.0, 10.0, 0.0, 10.0]]
    content = {
        "images": [{"id": 7, "file_name": "images/a.jpg", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "segmentation": left},
            {"id": 2, "image_id": 7, "category_id": 5, "segmentation": encode_mask(box(10, 20)), "iscrowd": 0},
        ],
    }
    annotations = tmp_path / "entityseg.json"
    annotations.write_text(json.dumps(content))
    given = {"path": halves, "ground_truth": "entityseg", "annotations": annotations}
    assert measure_table(EntitiesConfig(**given, table=2, **SMALL))["E-SAM"]["ap"] == pytest.approx(1.0)
    uri = store(tmp_path, a=labels([box(0, 10), box(10, 20)], [0.9, 0.8], SIZE))
    assert measure_store(StoredConfig(**given, labels=uri))[uri]["ap"] == pytest.approx(1.0)
    with pytest.raises(ConfigurationError, match="go together"):
        StoredConfig(path=halves, labels=uri, ground_truth="entityseg")


def test_labels_that_overlap_may_be_measured_and_limited(tmp_path: Path, panoptic: Path) -> None:
    uri = store(tmp_path, a=labels([box(0, 20), box(0, 10), box(10, 20)], [0.9, 0.8, 0.7], SIZE))
    figures = EntityFiguresOptions(max_dets=2, bootstrap=10)
    config = StoredConfig(path=panoptic, labels=uri, overlaps="keep", entity_figures=figures)
    row = measure_store(config)[uri]
    assert row["ap_2"] < row["ap"]
    assert row["ap_low"] == row["ap_high"] == pytest.approx(row["ap"])


def test_a_picture_of_another_size_than_its_annotation_is_named(halves: Path) -> None:
    Image.new("RGB", (30, 30)).save(halves / "images" / "a.jpg")
    with pytest.raises(ConfigurationError, match=r"a\.jpg has 30 x 30 pixels, its annotation 20 x 10"):
        measure_table(EntitiesConfig(path=halves, table=1, **SMALL))


@pytest.mark.ray
def test_workers_find_the_same_as_one_process(halves: Path) -> None:
    Image.open(halves / "images" / "a.jpg").save(halves / "images" / "b.jpg", quality=95)
    content = json.loads((halves / "panoptic.json").read_text())
    content["images"].append({"id": 2, "file_name": "b.jpg"})
    content["annotations"].append(content["annotations"][0] | {"image_id": 2})
    (halves / "panoptic.json").write_text(json.dumps(content))
    alone = measure_table(EntitiesConfig(path=halves, table=1, **SMALL))
    try:
        assert measure_table(EntitiesConfig(path=halves, table=1, **SMALL | {"workers": 2})) == alone
    finally:
        ray.shutdown()  # the next module starts a cluster of its own
