"""The protocol's promises, and agreement with `segment_anything.SamPredictor` from image to full resolution."""

from __future__ import annotations

import gc
import pickle
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor

from everymask.backbone.protocol import PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.backbone.sam import SamBackbone, SamConfig, build_sam, make_backbone
from everymask.backbone.sam.prompt_decoder import PromptDecoder
from everymask.errors import ConfigurationError, ModelOutputError
from tests.tiny_sam import TINY, load_tiny_sam

SIZES_HW = [(48, 80), (200, 77), (64, 64), (191, 256), (300, 7)]
TOLERANCE = 1e-4


def random_image(size_hw: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def random_points(size_hw: tuple[int, int], count: int) -> torch.Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(count)) * torch.tensor(size_hw[::-1])


@pytest.fixture(scope="module")
def predictor() -> SamPredictor:
    return SamPredictor(build_sam(TINY, seed=0))


def test_implements_the_protocol(tiny_sam: SamBackbone) -> None:
    assert isinstance(tiny_sam, PromptableBackbone)


@pytest.mark.parametrize("size_hw", SIZES_HW)
def test_clicks_give_what_sam_gives(tiny_sam: SamBackbone, predictor: SamPredictor, size_hw: tuple[int, int]) -> None:
    image, points = random_image(size_hw), random_points(size_hw, 4)
    embedding = tiny_sam.embed([image])[0]
    answers = tiny_sam.decode_points(embedding, points)
    predictor.set_image(image)
    for index, point in enumerate(points):
        masks, predicted_iou, _ = predictor.predict(point[None].numpy(), np.ones(1), return_logits=True)
        own = tiny_sam.full_resolution_logits(embedding, answers.logits[index])
        np.testing.assert_allclose(own, masks, atol=TOLERANCE)
        np.testing.assert_allclose(answers.predicted_iou[index], predicted_iou, atol=TOLERANCE)
    assert torch.equal(answers.point_coords, points)


@pytest.mark.parametrize("clicks", [0, 1, 3])
@pytest.mark.parametrize("boxed", [False, True])
def test_refining_clicks_and_a_box_give_what_sam_gives(
    tiny_sam: SamBackbone, predictor: SamPredictor, clicks: int, boxed: bool
) -> None:
    if not clicks and not boxed:
        pytest.skip("no prompt")
    image, points = random_image((48, 80)), random_points((48, 80), clicks)
    labels = torch.tensor([1, 0, 1])[:clicks]
    embedding = tiny_sam.embed([image])[0]
    box = torch.tensor([10.0, 5.0, 61.0, 41.0]) if boxed else None
    answer = tiny_sam.decode_clicks(embedding, points, labels, box)
    predictor.set_image(image)
    masks, predicted_iou, _ = predictor.predict(
        points.numpy() if clicks else None,
        labels.numpy() if clicks else None,
        # SAM's boxes end on the last pixel.
        box=np.array([10, 5, 60, 40]) if boxed else None,
        return_logits=True,
    )
    own = tiny_sam.full_resolution_logits(embedding, answer.logits[0])
    np.testing.assert_allclose(own, masks, atol=TOLERANCE)
    np.testing.assert_allclose(answer.predicted_iou[0], predicted_iou, atol=TOLERANCE)
    assert answer.point_coords.shape == (1, 2)


def test_a_prompt_of_nothing_is_refused(tiny_sam: SamBackbone) -> None:
    embedding = tiny_sam.embed([random_image((20, 30))])[0]
    with pytest.raises(ValueError, match="at least one click or a box"):
        tiny_sam.decode_clicks(embedding, torch.zeros(0, 2), torch.zeros(0))


def test_images_of_a_batch_do_not_see_each_other(tiny_sam: SamBackbone) -> None:
    images = [random_image(size_hw, seed) for seed, size_hw in enumerate(SIZES_HW[:3])]
    for image, together in zip(images, tiny_sam.embed(images), strict=True):
        alone = tiny_sam.embed([image])[0]
        torch.testing.assert_close(together.features["image"], alone.features["image"], atol=TOLERANCE, rtol=0)
        assert np.array_equal(together.canvas_image, alone.canvas_image)
        assert torch.equal(together.canvas.cell_index, alone.canvas.cell_index)
    assert tiny_sam.embed([]) == []


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 500), (500, 1), (3, 3)])
def test_degenerate_images_are_answered(tiny_sam: SamBackbone, size_hw: tuple[int, int]) -> None:
    embedding = tiny_sam.embed([np.zeros((*size_hw, 3), dtype=np.uint8)])[0]
    answers = tiny_sam.decode_points(embedding, torch.tensor([[0.5, 0.5]]))
    assert embedding.canvas_image.shape[:2] == embedding.canvas.size_hw
    assert tiny_sam.full_resolution_logits(embedding, answers.logits[0]).shape == (3, *size_hw)


def test_an_embedding_survives_pickling_and_carries_its_own_image_alone(tiny_sam: SamBackbone) -> None:
    images = [random_image((48, 80)), random_image((80, 48))]
    embedding = tiny_sam.embed(images)[1]
    pickled = pickle.dumps(embedding)
    assert len(pickled) < 2 * len(pickle.dumps(tiny_sam.embed(images[:1])[0]))
    points = random_points((80, 48), 3)
    again = tiny_sam.decode_points(pickle.loads(pickled), points)
    assert torch.equal(again.logits, tiny_sam.decode_points(embedding, points).logits)


def test_no_points_give_empty_answers(tiny_sam: SamBackbone) -> None:
    embedding = tiny_sam.embed([random_image((48, 80))])[0]
    answers = tiny_sam.decode_points(embedding, torch.zeros(0, 2))
    assert answers.logits.shape == (0, 3, embedding.canvas.num_cells)
    assert answers.tokens.shape == (0, 3, tiny_sam.token_dim)
    assert answers.predicted_iou.shape == (0, 3)


def test_the_chunk_size_does_not_change_the_answers(tiny_sam: SamBackbone, tmp_path: Path) -> None:
    embedding = tiny_sam.embed([random_image((48, 80))])[0]
    points = random_points((48, 80), 7)
    expected = tiny_sam.decode_points(embedding, points)
    for size in (1, 4, 100):
        other = load_tiny_sam(tmp_path, SamConfig(points_per_batch=size))
        answers = other.decode_points(embedding, points)
        torch.testing.assert_close(answers.logits, expected.logits, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(answers.tokens, expected.tokens, atol=TOLERANCE, rtol=0)


def test_out_of_memory_halves_the_chunk_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = load_tiny_sam(tmp_path, SamConfig(points_per_batch=8))
    embedding = backbone.embed([random_image((48, 80))])[0]
    points = random_points((48, 80), 9)
    expected = backbone.decode_points(embedding, points)
    decode, sizes = PromptDecoder.decode, []

    def decode_in_little_memory(self: PromptDecoder, state: object, prompts: torch.Tensor, *rest: object) -> object:
        sizes.append(len(prompts))
        if len(prompts) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(self, state, prompts, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(PromptDecoder, "decode", decode_in_little_memory)
    answers = backbone.decode_points(embedding, points)
    assert sizes == [8, 4, 2, 2, 2, 2, 1]
    assert "decoding 2 prompts at a time" in caplog.text
    backbone.decode_points(embedding, points[:3])
    assert sizes[7:] == [2, 1], "what did not fit once is not tried again"
    torch.testing.assert_close(answers.logits, expected.logits, atol=TOLERANCE, rtol=0)


def test_other_runtime_errors_are_not_taken_for_lack_of_memory(
    tiny_sam: SamBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: PromptDecoder, state: object, prompts: torch.Tensor, *rest: object) -> object:
        raise RuntimeError("shapes do not match")

    embedding = tiny_sam.embed([random_image((48, 80))])[0]
    monkeypatch.setattr(PromptDecoder, "decode", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        tiny_sam.decode_points(embedding, random_points((48, 80), 2))


def test_nan_is_an_error_that_names_the_model() -> None:
    sam = build_sam(TINY, seed=0)
    sam.image_encoder.neck[3].bias[0] = torch.nan
    backbone = make_backbone(sam, name="vit_b", weights_sha256="0" * 64, device=torch.device("cpu"))
    with pytest.raises(ModelOutputError, match="vit_b answered with NaN"):
        backbone.embed([random_image((20, 20))])
    sam = build_sam(TINY, seed=0)
    sam.mask_decoder.iou_prediction_head.layers[0].bias[0] = torch.inf
    backbone = make_backbone(sam, name="vit_b", weights_sha256="0" * 64, device=torch.device("cpu"))
    with pytest.raises(ModelOutputError):
        backbone.decode_points(backbone.embed([random_image((20, 20))])[0], torch.ones(1, 2))


def test_an_embedding_of_other_weights_is_refused(tiny_sam: SamBackbone) -> None:
    embedding = replace(tiny_sam.embed([random_image((20, 20))])[0], weights_sha256="f" * 64)
    with pytest.raises(ConfigurationError, match="embed the image again"):
        tiny_sam.decode_points(embedding, torch.ones(1, 2))


def test_distinct_points_groups_repeated_ones(tiny_sam: SamBackbone) -> None:
    embedding = tiny_sam.embed([random_image((20, 20))])[0]
    points = torch.tensor([[9.0, 1.0], [2.0, 3.0], [9.0, 1.0], [0.0, 0.0], [2.0, 3.0]])
    representative, inverse = tiny_sam.distinct_points(embedding, points)
    assert representative.tolist() == [0, 1, 3]
    assert torch.equal(points[representative][inverse], points)
    representative, inverse = tiny_sam.distinct_points(embedding, points[:0])
    assert len(representative) == len(inverse) == 0


def test_sampled_and_pooled_features_are_those_of_the_place(tiny_sam: SamBackbone) -> None:
    embedding = tiny_sam.embed([random_image((128, 256))])[0]
    image = embedding.features["image"]
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(16), indexing="ij")
    centres = torch.stack([columns.flatten() * 16 + 8.0, rows.flatten() * 16 + 8.0], dim=1)
    sampled = tiny_sam.sample_features(embedding, centres)
    torch.testing.assert_close(sampled, image[:, :8].flatten(1).t(), atol=1e-5, rtol=0)

    canvas = embedding.canvas
    masks = torch.zeros(3, *canvas.size_hw, dtype=torch.bool)
    masks[0, 4:8, 8:12] = True  # Token (1, 2) alone.
    masks[1, 0:4, 0:6] = True  # Token (0, 0), and half of (0, 1).
    pooled = tiny_sam.pool_features(embedding, masks.flatten(1))
    torch.testing.assert_close(pooled[0], image[:, 1, 2], atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled[1], (2 * image[:, 0, 0] + image[:, 0, 1]) / 3, atol=1e-5, rtol=0)
    assert not pooled[2].any()


def test_the_canvas_shows_the_image_without_padding(tiny_sam: SamBackbone) -> None:
    image = np.full((100, 200, 3), 255, dtype=np.uint8)
    image[:, 100:] = 40
    embedding = tiny_sam.embed([image])[0]
    assert embedding.canvas.size_hw == (33, 64)
    assert (embedding.canvas_image[:, :31] == 255).all()
    assert (embedding.canvas_image[:, 33:] == 40).all()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_answers_in_float32(tmp_path: Path, precision: str) -> None:
    exact = load_tiny_sam(tmp_path)
    config = SamConfig(encoder_precision="bf16", decoder_precision=precision)  # type: ignore[arg-type]
    backbone = load_tiny_sam(tmp_path, config)
    image, points = random_image((48, 80)), random_points((48, 80), 5)
    answers = backbone.decode_points(backbone.embed([image])[0], points)
    expected = exact.decode_points(exact.embed([image])[0], points)
    assert {answers.logits.dtype, answers.predicted_iou.dtype, answers.tokens.dtype} == {torch.float32}
    assert ((answers.logits > 0) == (expected.logits > 0)).float().mean() > 0.9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_masks_of_the_cpu(tmp_path: Path, tiny_sam: SamBackbone) -> None:
    sam = build_sam(TINY, seed=0)
    config = SamConfig(encoder_precision="fp32")
    backbone = make_backbone(
        sam, name="vit_b", weights_sha256=tiny_sam.weights_sha256, device=torch.device("cuda"), config=config
    )
    image, points = random_image((48, 80)), random_points((48, 80), 5)
    embedding = backbone.embed([image])[0]
    assert embedding.features["image"].dtype == torch.float16
    answers = backbone.decode_points(embedding, points)
    expected = tiny_sam.decode_points(tiny_sam.embed([image])[0], points)
    assert ((answers.logits.cpu() > 0) == (expected.logits > 0)).float().mean() > 0.99


@pytest.mark.parametrize(
    "settings", [{"points_per_batch": 0}, {"encoder_precision": "fp8"}, {"decoder_precision": "int8"}]
)
def test_impossible_settings_are_named(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        SamConfig(**settings)  # type: ignore[arg-type]


def test_without_its_encoder_it_answers_prompts_as_before(tiny_sam_checkpoint: Path) -> None:
    whole, without = (load_backbone("vit_b", tiny_sam_checkpoint, "cpu") for _ in range(2))
    (embedding,) = whole.embed([np.random.default_rng(3).integers(0, 255, (40, 60, 3), np.uint8)])
    assert isinstance(without, SamBackbone)
    encoder = weakref.ref(without._encode)
    without.forget_encoder()
    gc.collect()
    assert encoder() is None, "something still holds its weights"
    points = torch.tensor([[10.0, 20.0], [50.0, 5.0]])
    answers = [model.decode_points(embedding, points) for model in (whole, without)]
    assert torch.equal(answers[0].logits, answers[1].logits)
    with pytest.raises(RuntimeError, match="encoder of vit_b was forgotten; load the model again"):
        without.embed([np.zeros((8, 8, 3), np.uint8)])
