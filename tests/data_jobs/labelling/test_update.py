"""A better head labels the same store on real Ray, and people's corrections stay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_jobs.label_dataset import command as label
from everymask.backbone.sam import SamBackbone
from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.head import ClassHead, load_head, save_head
from everymask.classes.training.train import TrainingConfig, head_spec
from everymask.images.decoding import decode_image
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.labels.correction_log import CorrectionLog
from everymask.labels.corrections import labelled_images
from everymask.labels.provenance import read_run
from everymask.labels.store import LabelStore
from everymask.masks.rle import encode_mask
from everymask.review.steps import Step, entry_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster"), pytest.mark.timeout(600)]

NAMES = [f"{number}.png" for number in range(5)]
CLASSES = ClassesConfig(masks=MaskConfig(points_per_side=4), score_thresh=0.1)
DRAWN = np.zeros((30, 40), dtype=np.bool_)
DRAWN[3:9, 5:20] = True


@dataclass(frozen=True)
class Loop:
    """A folder with photos and two heads, and the command on them."""

    folder: Path
    checkpoint: Path
    sam: SamBackbone

    def run(self, head: str, output: str, *options: str) -> int:
        return label(
            [
                *("--input", str(self.folder / "photos"), "--output", output, "--model", "vit_b", "--actors", "1"),
                *("--checkpoint", str(self.checkpoint), "--device", "cpu", "--previews", "0", "--method", "classes"),
                *("--head", str(self.folder / head), "--classes.masks.points-per-side", "4"),
                *("--classes.score-thresh", "0.1", *options),
            ]
        )

    def masks(self, head: str, name: str) -> list[tuple[str, str | None]]:
        """(counts, class) of what the library finds."""
        picture = decode_image((self.folder / "photos" / name).read_bytes())
        config = LabelConfig("classes", classes=CLASSES)
        (found,) = label_images(self.sam, [picture], config, load_head(self.folder / head))
        return [(mask.rle["counts"], mask.class_name) for mask in found.masks]


@pytest.fixture(scope="module")
def loop(tiny_sam_checkpoint: Path, tiny_sam: SamBackbone, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    folder = tmp_path_factory.mktemp("loop")
    (folder / "photos").mkdir()
    for number, name in enumerate(NAMES):
        blocks = np.random.default_rng(number).integers(0, 255, (3, 4, 3), np.uint8)
        Image.fromarray(blocks).resize((40, 30), Image.Resampling.NEAREST).save(folder / "photos" / name)
    for seed, (head, classes) in enumerate({"pets": ("cat", "dog"), "better": ("bird", "dog", "cat")}.items()):
        torch.manual_seed(seed)
        spec = head_spec(classes, tiny_sam, TrainingConfig(hidden_dim=8))
        save_head(ClassHead(spec), folder / f"{head}.safetensors")
    return Loop(folder, tiny_sam_checkpoint, tiny_sam)


def made(store: LabelStore) -> dict[str, list[tuple[str, str | None]]]:
    """(counts, class) of every image's masks as the model made them; each image has one row."""
    rows = list(store.images())
    assert sorted(row.image_id for row in rows) == NAMES
    return {row.image_id: [(mask.rle["counts"], mask.class_name) for mask in row.labels.masks] for row in rows}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "shards",
    [pytest.param((), id="one plan", marks=pytest.mark.slow), pytest.param(("--shard-images", "3"), id="shards")],
)
def test_a_better_head_labels_the_same_store_and_what_people_left_stays(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shards: tuple[str]
) -> None:
    store = LabelStore(str(tmp_path / "labels"))
    monkeypatch.chdir(tmp_path)
    assert loop.run("pets.safetensors", "labels", *shards) == 0
    assert made(store) == {name: loop.masks("pets.safetensors", name) for name in NAMES}
    image = next(row for row in store.images() if row.labels and row.labels.masks)
    confirmed = image.labels.masks[0]  # type: ignore[union-attr]
    steps = [Step("confirm", (str(confirmed.mask_id),)), Step("add", class_name="dog", rle=encode_mask(DRAWN))]
    entry = entry_of(image, [], steps, {"cat": 0, "dog": 1}, "ada", "2026-11-30T10:00:00.000+00:00")
    assert entry is not None
    CorrectionLog(store, "ada").append([entry])

    before = made(store)
    capsys.readouterr()
    assert loop.run("better.safetensors", "labels", *shards) == 2
    refusal = capsys.readouterr().err
    assert "the class head was pets.safetensors, now better.safetensors" in refusal
    assert "--update" in refusal
    assert "sha256" not in refusal
    assert made(store) == before

    # As a stranger: from another folder.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert loop.run("better.safetensors", "../labels", *shards, "--update") == 0
    assert "the corrections of 1 image were carried over" in capsys.readouterr().out
    assert made(store) == {name: loop.masks("better.safetensors", name) for name in NAMES} != before
    assert not (tmp_path / "labels" / "update").exists()
    shown = {row.image_id: found for row, found in labelled_images(store)}[image.image_id]
    approved = {(mask.rle["counts"], mask.class_name) for mask in shown.masks if mask.score == 1.0}
    assert approved == {
        (confirmed.rle["counts"], confirmed.class_name),
        (encode_mask(DRAWN)["counts"], "dog"),
    }
    assert {(mask.class_id, mask.class_name) for mask in shown.masks} <= {(0, "bird"), (1, "dog"), (2, "cat")}

    # Again: the labels are these already.
    assert loop.run("better.safetensors", "../labels", *shards, "--update") == 0
    assert "0 images labelled" in capsys.readouterr().out
    record = read_run(store)
    assert record is not None
    assert [attempt.labelled for attempt in record.attempts] == [5, 5, 0]
    assert "update" not in (record.settings or {})
