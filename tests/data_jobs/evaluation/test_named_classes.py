"""Methods that name classes, measured on pictures that are annotated with what they find."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_jobs.evaluate import classes as command
from data_jobs.evaluation.config import IntervalOptions, NamedClassesConfig
from data_jobs.evaluation.named_classes import measure_classes
from data_jobs.runtime.options import ModelOptions
from everymask.backbone.registry import load_backbone
from everymask.classes.config import ClassesConfig, ClipConfig, ConceptsConfig, MaskConfig
from everymask.classes.head import ClassHead, HeadSpec, load_head, save_head
from everymask.errors import ConfigurationError, HeadMismatchError
from everymask.images.decoding import decode_image
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.records import ImageLabels
from tests.backbone.sam3.tiny import save_tiny_sam3
from tests.classes.tiny_clip import save_tiny_clip
from tests.tiny_sam import write_tiny_checkpoint

SIZE = (60, 80)
MASKS = MaskConfig(points_per_side=6)
CLASSES = ("cat", "dog", "emu")


def head_file(folder: Path, checkpoint: Path, name: str = "pets", seed: int = 0) -> str:
    backbone = load_backbone("vit_b", str(checkpoint), "cpu")
    torch.manual_seed(seed)
    head = ClassHead(HeadSpec(CLASSES, backbone.name, backbone.weights_sha256, "token", 32, 32))
    save_head(head, folder / f"{name}.safetensors")
    return str(folder / f"{name}.safetensors")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> NamedClassesConfig:
    """Two pictures whose annotations are the masks of a random head, found without a threshold."""
    folder = tmp_path_factory.mktemp("measured")
    checkpoint = write_tiny_checkpoint(folder)
    head = head_file(folder, checkpoint)
    (folder / "images").mkdir()
    backbone = load_backbone("vit_b", str(checkpoint), "cpu")
    images, annotations = [], []
    for number, name in enumerate(("a.png", "b.png"), start=1):
        noise = np.random.default_rng(number).integers(256, size=(6, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(SIZE[::-1], Image.Resampling.BICUBIC).save(folder / "images" / name)
        pixels = decode_image((folder / "images" / name).read_bytes())
        every_mask = LabelConfig("classes", classes=ClassesConfig(masks=MASKS, score_thresh=0.0))
        (labels,) = label_images(backbone, [pixels], every_mask, load_head(head))
        assert isinstance(labels, ImageLabels)
        images.append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        annotations += [
            {"image_id": number, "category_id": mask.class_id, "segmentation": dict(mask.rle), "area": mask.area}
            for mask in labels.masks
        ]
    assert len(annotations) > 2
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return NamedClassesConfig(
        path=folder,
        ground_truth="coco_instances",
        head=(head,),
        model=ModelOptions("vit_b", str(checkpoint), "cpu"),
        workers=1,
        intervals=IntervalOptions(20),
        labels=LabelConfig(classes=ClassesConfig(masks=MASKS)),
    )


def test_ap_is_of_all_masks_and_miou_of_those_that_pass_the_threshold(measured: NamedClassesConfig) -> None:
    labels = LabelConfig(classes=ClassesConfig(masks=MASKS, score_thresh=1.0))
    strict = measure_classes(replace(measured, labels=labels))["classes"]
    assert strict["AP"] == strict["AP50"] == pytest.approx(1.0)
    loose = replace(measured, labels=LabelConfig(classes=ClassesConfig(masks=MASKS, score_thresh=0.0)))
    row = measure_classes(loose)["classes"]
    assert row["AP"] == pytest.approx(1.0)
    assert strict["mIoU"] < 0.5 < row["mIoU"]  # background alone, and all
    assert row["mIoU_low"] <= row["mIoU"] <= row["mIoU_high"]
    assert (row["images"], row["ms"] > 0) == (2, True)


def test_heads_and_names_are_rows_that_share_the_classes_that_all_can_name(
    measured: NamedClassesConfig, tmp_path: Path
) -> None:
    checkpoint = Path(str(measured.model.checkpoint))
    clip = ClipConfig(model=str(save_tiny_clip(tmp_path)), masks=MASKS)
    config = replace(
        measured,
        head=(*measured.head, head_file(tmp_path, checkpoint, "others", seed=1)),
        names="cat,dog,background",
        labels=replace(measured.labels, clip=clip),
        by_class=True,
    )
    figures = measure_classes(config)
    names = ("classes, pets", "classes, others", "clip")
    assert list(figures) == [f"{row}{of}" for row in names for of in ("", ": background", ": cat", ": dog")]
    assert figures["classes, pets"]["AP"] == pytest.approx(1.0) != figures["classes, others"]["AP"]
    objects = {name: figures[name]["objects"] for name in ("clip", "clip: cat", "clip: dog")}
    assert objects["clip"] == objects["clip: cat"] + objects["clip: dog"]


def test_a_head_clip_and_sam3_stand_in_one_table(measured: NamedClassesConfig, tmp_path: Path) -> None:
    checkpoint = save_tiny_sam3(tmp_path)
    backbone = load_backbone("sam3", checkpoint, "cpu")
    spec = HeadSpec(CLASSES, backbone.name, backbone.weights_sha256, "token", backbone.token_dim, backbone.feature_dim)
    save_head(ClassHead(spec), tmp_path / "pets.safetensors")
    clip = ClipConfig(model=str(save_tiny_clip(tmp_path)), masks=MASKS)
    config = replace(
        measured,
        head=(str(tmp_path / "pets.safetensors"),),
        names="cat,dog,background",
        methods=("classes", "clip", "concepts"),
        model=ModelOptions("sam3", str(checkpoint), "cpu"),
        labels=replace(measured.labels, clip=clip, concepts=ConceptsConfig(score_thresh=0.2)),
        price_per_hour=3.6,
    )
    figures = measure_classes(config)
    assert list(figures) == ["classes", "clip", "concepts"]
    for row in figures.values():
        assert {"mIoU", "mIoU_low", "mIoU_high", "AP50_low", "ms", "cost of 1,000"} <= set(row)
        assert row["cost of 1,000"] == pytest.approx(row["ms"] / 1000, abs=6e-4)
        assert row["objects"] == figures["classes"]["objects"] > 0


def test_the_command_prints_a_row_and_writes_the_head_it_measured(
    measured: NamedClassesConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--path", str(measured.path), "--ground-truth", "coco_instances", "--head", *measured.head]
    given += ["--model", "vit_b", "--checkpoint", str(measured.model.checkpoint), "--workers", "1", "--bootstrap", "0"]
    given += ["--classes.masks.points-per-side", "6", "--limit", "1", "--measured", "pet=cat+dog"]
    assert command([*given, "--json", str(tmp_path / "figures.json")]) == 2
    assert "classes cannot name pet, but cat, dog, emu" in capsys.readouterr().err
    given[-1] = "cat,dog"
    assert command([*given, "--json", str(tmp_path / "figures.json")]) == 0
    written = json.loads((tmp_path / "figures.json").read_text())
    assert list(written["heads"]) == ["pets.safetensors"]
    assert written["figures"]["classes"]["images"] == 1
    assert capsys.readouterr().out.split()[:3] == ["mIoU", "AP", "AP50"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"methods": ("entities",)}, "method entities names no classes; choose among classes, clip"),
        ({"head": (), "methods": ("classes",)}, "method classes needs a class head"),
        ({"head": (), "methods": ("clip",)}, "method clip needs names"),
        ({"names": "yak,zebu"}, "no class is named by every row"),
    ],
)
def test_what_cannot_be_measured_is_said(measured: NamedClassesConfig, given: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        measure_classes(replace(measured, **given))  # type: ignore[arg-type]


def test_nothing_to_measure(measured: NamedClassesConfig) -> None:
    with pytest.raises(ConfigurationError, match="give --head FILE, --names cat,dog, or both"):
        replace(measured, head=())


def test_a_head_of_another_model_is_refused(measured: NamedClassesConfig) -> None:
    with pytest.raises(HeadMismatchError):
        measure_classes(replace(measured, model=ModelOptions("nano", device="cpu")))
