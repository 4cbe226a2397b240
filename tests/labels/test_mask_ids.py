"""A mask's id says the same of it everywhere: in a job, in a service, and in stores of the older format."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_jobs.labelling.model_spec import ModelFacts
from data_jobs.labelling.run_configuration import comparable, configuration_without_model, run_configuration
from everymask.classes.config import ClassesConfig
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.images.decoding import ImageLimits
from everymask.labelling.config import LabelConfig
from everymask.labelling.settings import click_settings, label_settings
from everymask.labels.mask_ids import settings_digest, with_mask_ids
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.schema import MASK, SCHEMA
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from serve.settings import read_settings
from tests.labels.examples import images, labels

FILE, WEIGHTS = "ab" * 32, "cd" * 32
DIGEST = settings_digest(label_settings(LabelConfig(), "nano", WEIGHTS))


def without_ids(found: ImageLabels) -> ImageLabels:
    return replace(found, masks=tuple(replace(mask, mask_id=None) for mask in found.masks))


def ids(found: ImageLabels, content_sha256: str | None = FILE, digest: str = DIGEST) -> list[str | None]:
    return [mask.mask_id for mask in with_mask_ids(without_ids(found), content_sha256, digest).masks]


def test_an_id_is_24_hexadecimal_digits_and_does_not_change() -> None:
    first = ids(labels())
    assert all(re.fullmatch("[0-9a-f]{24}", str(mask_id)) for mask_id in first)
    assert first == ids(labels())
    # Written down, so that ids in the stores of users stay what they are.
    assert ids(labels(), FILE, "0" * 64) == ["1b3d30fd5fd646d2001e38ed", "a47180f0aafb5ec7645b04da"]


def test_file_settings_mask_and_class_all_count_and_the_order_of_masks_does_not() -> None:
    first = ids(labels())
    assert not set(first) & set(ids(labels(), "ef" * 32))
    other_settings = settings_digest(label_settings(LabelConfig("amg"), "nano", WEIGHTS))
    assert not set(first) & set(ids(labels(), FILE, other_settings))
    assert not set(first) & set(ids(labels(classes=True)))
    assert ids(replace(labels(), masks=labels().masks[::-1])) == first[::-1]


def test_a_mask_that_stands_twice_has_two_ids() -> None:
    first, second = labels().masks
    repeated = ids(replace(labels(), masks=(first, second, first)))
    assert len(set(repeated)) == 3
    assert repeated[:2] == ids(labels())


def test_an_id_once_given_stays() -> None:
    assert with_mask_ids(labels(), "ef" * 32, DIGEST) == labels()


@pytest.mark.parametrize("method", ["entities", "amg"])
def test_a_job_and_a_service_with_the_same_settings_give_the_same_ids(method: Literal["entities", "amg"]) -> None:
    """However each of them writes a number, and whatever else they are told."""
    options: dict[str, Any] = {"points_per_side": 8, "pred_iou_thresh": 0, "points_per_batch": 7}
    entities, amg = EntityConfig(**options), AmgConfig(**options)
    job = LabelConfig(method, entities, amg)
    facts = ModelFacts("nano", "cpu", WEIGHTS, None, None)
    configuration = run_configuration("photos", job, facts, ImageLimits())
    service = read_settings({method: {**options, "points_per_batch": 16}, "limits": {"max_bytes": 1000}})
    config = replace(service.labels, method=method)
    assert settings_digest(configuration) == settings_digest(label_settings(config, "nano", WEIGHTS))
    assert settings_digest(configuration) != settings_digest(click_settings("nano", WEIGHTS))
    other = replace(config, entities=EntityConfig(points_per_side=9), amg=replace(config.amg, points_per_side=9))
    assert settings_digest(configuration) != settings_digest(label_settings(other, "nano", WEIGHTS))


def test_the_precision_that_was_asked_for_is_in_the_ids_and_auto_is_not() -> None:
    """What a machine makes of `auto` is not: mixed cards agree."""
    config = LabelConfig("amg")
    auto = label_settings(config, "nano", WEIGHTS)
    assert "precision" not in auto
    used = ModelFacts("nano", "cuda", WEIGHTS, None, None, computes_in="bf16")
    assert used.settings(config) == auto
    asked = ModelFacts("nano", "cpu", WEIGHTS, None, None, precision="bf16")
    assert asked.settings(config) == {**auto, "precision": "bf16"}
    assert click_settings("nano", WEIGHTS, "fp32") == {**click_settings("nano", WEIGHTS), "precision": "fp32"}
    before_the_model = configuration_without_model("photos", config, "nano", ImageLimits(), precision="bf16")
    recorded = run_configuration("photos", config, asked, ImageLimits())
    assert comparable(recorded, before_the_model) == before_the_model
    other = configuration_without_model("photos", config, "nano", ImageLimits())
    assert comparable(recorded, other) != other


def test_the_heads_threshold_is_recorded_and_does_not_keep_a_run_from_going_on() -> None:
    facts = ModelFacts("nano", "cpu", WEIGHTS, "ab" * 32, ("cat",), head_score_thresh=0.5)
    made = run_configuration("photos", LabelConfig("classes"), facts, ImageLimits())
    assert made["classes"]["score_thresh"] == 0.5

    def fits(**classes: Any) -> bool:
        config = LabelConfig("classes", classes=ClassesConfig(**classes))
        before_the_model = configuration_without_model("photos", config, "nano", ImageLimits())
        return comparable(made, before_the_model) == before_the_model

    assert fits()
    assert fits(score_thresh=0.5)
    assert not fits(score_thresh=0.7)
    assert not fits(nms_iou_thresh=0.4)


def test_a_store_of_the_older_format_reads_as_if_it_had_ids(tmp_path: Path) -> None:
    configuration = {"input": "/photos", **label_settings(LabelConfig(), "nano", WEIGHTS), "limits": {"max_bytes": 1}}
    write_older_store(tmp_path / "old", configuration)
    new = LabelStore(str(tmp_path / "new"))
    new.write_part(to_table(images_without_ids()), configuration)
    old = LabelStore(str(tmp_path / "old"))
    assert list(old.images()) == list(new.images())
    assert [image.image_id for image in old.images()] == ["a/1.jpg", "b/1.jpg", "c.jpg"]
    found = next(old.images()).labels
    assert found is not None
    assert [mask.mask_id for mask in found.masks] == ids(labels(), FILE, settings_digest(configuration))
    assert old.summary() == new.summary()


def images_without_ids() -> list[ImageRow]:
    return [image if image.labels is None else replace(image, labels=without_ids(image.labels)) for image in images()]


def write_older_store(folder: Path, configuration: dict[str, object]) -> None:
    """As releases of format 1 wrote it."""
    (folder / "labels").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"format": 1, "config": configuration, "attempts": [], "counts": None}))
    mask = pa.struct([field for field in MASK if field.name not in ("mask_id", "agreement")])
    schema = SCHEMA.set(SCHEMA.get_field_index("masks"), pa.field("masks", pa.list_(mask)))
    rows = to_table(images()).to_pylist()
    for row in rows:
        for item in row["masks"] or ():
            del item["mask_id"], item["agreement"]
    counts = {"format": 1, "images": 3, "errors": 1, "masks": 2, "seconds": 0.75}
    table = pa.Table.from_pylist(rows, schema=schema).replace_schema_metadata({b"everymask": json.dumps(counts)})
    pq.write_table(table, folder / "labels" / "part-0.parquet", compression="zstd")
