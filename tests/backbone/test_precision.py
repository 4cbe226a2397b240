"""What is asked of a model's arithmetic is what it does, and half precision keeps the masks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from data_jobs.labelling.labeller import model_facts
from data_jobs.labelling.model_spec import ModelSpec
from everymask.backbone.models import PrecisionSetting
from everymask.backbone.nano.encoder import fast_bfloat16
from everymask.backbone.registry import load_backbone
from everymask.backbone.sam.config import SamConfig, best_precision
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.entities.segmenter import segment_entities
from everymask.errors import ConfigurationError
from everymask.images.decoding import ImageLimits, decode_image
from everymask.labelling.config import LabelConfig
from everymask.masks.rle import encode_masks, rle_ious
from everymask.records import Rle
from serve.settings import read_settings

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "images"
CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_computes_in_what_is_asked_for(precision: PrecisionSetting, tiny_sam_checkpoint: Path) -> None:
    assert load_backbone("nano", device="cpu", precision=precision).precision == precision
    sam = load_backbone("vit_b", tiny_sam_checkpoint, "cpu", precision)
    assert sam.precision == precision
    config = SamConfig.asked(precision)
    assert config.encoder_dtype(CPU) == config.decoder_dtype(CPU)


def test_auto_is_exact_on_a_cpu_but_for_nano(tiny_sam_checkpoint: Path) -> None:
    assert load_backbone("vit_b", tiny_sam_checkpoint, "cpu").precision == "fp32"
    assert load_backbone("nano", device="cpu").precision == ("bf16" if fast_bfloat16(CPU) else "fp32")


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_without_bf16_takes_fp16(monkeypatch: pytest.MonkeyPatch, has_bf16: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert best_precision(torch.device("cuda")) == expected
    dtypes = {SamConfig().encoder_dtype(torch.device("cuda")), SamConfig().decoder_dtype(torch.device("cuda"))}
    assert dtypes == {torch.bfloat16 if has_bf16 else torch.float16}


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="precision 'int8' is unknown; use auto, fp32, bf16"):
        load_backbone("nano", device="cpu", precision="int8")  # type: ignore[arg-type]


def test_a_run_records_what_was_asked_for_and_what_was_used(tiny_sam_checkpoint: Path) -> None:
    config = LabelConfig("amg", amg=AmgConfig(points_per_side=4))
    spec = ModelSpec("vit_b", str(tiny_sam_checkpoint), None, "cpu", config, ImageLimits(), 1, precision="bf16")
    facts = model_facts(spec)
    assert (facts.precision, facts.computes_in) == ("bf16", "bf16")
    assert read_settings({"precision": "bf16"}).precision == "bf16"


@torch.inference_mode()
def nano_masks(precision: Literal["fp32", "bf16"], image: NDArray[np.uint8]) -> tuple[list[Rle], list[Rle]]:
    """The masks of a grid of clicks, and the entities, from one encoding by a decoder in that precision."""
    (embedding,) = load_backbone("nano", device="cpu", precision="fp32").embed([image])
    backbone = load_backbone("nano", device="cpu", precision=precision)
    height, width = image.shape[:2]
    ys, xs = np.mgrid[0.5:8, 0.5:8] / 8
    points = torch.tensor(np.stack([xs * width, ys * height], axis=-1).reshape(-1, 2), dtype=torch.float32)
    logits = backbone.decode_points(embedding, points).logits[:, 0]
    config = EntityConfig(points_per_side=16, gallery_points_per_side=32)
    entities = segment_entities(backbone, embedding, config)
    return encode_masks(backbone.full_resolution_logits(embedding, logits) > 0), [mask.rle for mask in entities.masks]


def test_nanos_trained_decoder_gives_the_same_masks_in_half_precision() -> None:
    clicks, entities = [], []
    # Processors without these instructions compute in bfloat16 many times as slowly.
    names = ("coffee.jpg", "astronaut.jpg", "cat.webp") if fast_bfloat16(CPU) else ("coffee.jpg",)
    for name in names:
        image = decode_image((EXAMPLES / name).read_bytes())
        exact, exact_entities = nano_masks("fp32", image)
        half, half_entities = nano_masks("bf16", image)
        clicks += list(np.diag(rle_ious(exact, half)))
        entities += list(rle_ious(exact_entities, half_entities).max(axis=1))
    for what, ious in (("masks of clicks", clicks), ("entities", entities)):
        print(f"{len(ious)} {what}: mean IoU {np.mean(ious):.3f}, worst {np.min(ious):.3f}")
    assert np.mean(clicks) >= 0.99
    # A small entity may be lost; which one depends on how the processor rounds.
    assert np.median(entities) >= 0.99
    assert np.mean(np.array(entities) >= 0.75) >= 0.85
