from __future__ import annotations

import numpy as np
import pytest
import torch

from everymask.backbone.sam import SamBackbone
from everymask.errors import InputError
from everymask.labelling.clicks import ClickPrompt, segment_clicks
from everymask.masks.rle import decode_mask


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def test_candidates_are_the_backbones_own_answers_best_first(tiny_sam: SamBackbone, image: np.ndarray) -> None:
    embedding = tiny_sam.embed([image])[0]
    prompt = ClickPrompt(((30.0, 20.0), (70.0, 50.0)), (1, 0), (10.0, 5.0, 80.0, 55.0))
    labels = segment_clicks(tiny_sam, embedding, prompt)

    direct = tiny_sam.decode_clicks(
        embedding, torch.tensor(prompt.point_coords), torch.tensor(prompt.point_labels), torch.tensor(prompt.box_xyxy)
    )
    full = (tiny_sam.full_resolution_logits(embedding, direct.logits[0]) > 0).numpy()
    order = np.argsort(-direct.predicted_iou[0].numpy(), kind="stable")
    expected = [full[i] for i in order if full[i].any()]
    assert len(labels.masks) == len(expected) > 0
    for mask, pixels in zip(labels.masks, expected, strict=True):
        np.testing.assert_array_equal(decode_mask(mask.rle), pixels)
        assert mask.area == pixels.sum()
        ys, xs = np.nonzero(pixels)
        assert mask.box_xyxy == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert labels.size_hw == (60, 90)
    assert labels.coverage == pytest.approx(labels.masks[0].area / (60 * 90))


def test_one_candidate_is_the_best_of_three(tiny_sam: SamBackbone, image: np.ndarray) -> None:
    embedding = tiny_sam.embed([image])[0]
    prompt = ClickPrompt(((30.0, 20.0),), (1,))
    assert segment_clicks(tiny_sam, embedding, prompt, 1).masks == segment_clicks(tiny_sam, embedding, prompt).masks[:1]


@pytest.mark.parametrize(
    ("coords", "labels", "box", "message"),
    [
        ((), (), None, "points at nothing"),
        (((1.0, 1.0),), (0,), None, "points at nothing"),
        (((1.0, 1.0),), (1, 1), None, "1 point_coords and 2 point_labels"),
        (((1.0, 1.0),), (2,), None, "point_labels"),
        ((), (), (5.0, 5.0, 5.0, 9.0), "empty"),
        ((), (), (5.0, float("nan"), 8.0, 9.0), "empty"),
    ],
)
def test_a_prompt_that_means_nothing_is_refused(coords: tuple, labels: tuple, box: tuple | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClickPrompt(coords, labels, box)


@pytest.mark.parametrize(
    "prompt",
    [
        ClickPrompt(((90.0, 10.0),), (1,)),
        ClickPrompt(((10.0, 60.0),), (1,)),
        ClickPrompt(((-1.0, 10.0),), (1,)),
        ClickPrompt(((float("nan"), 10.0),), (1,)),
        ClickPrompt(((5.0, 5.0), (1e9, 1.0)), (1, 0)),
        ClickPrompt(box_xyxy=(0.0, 0.0, 91.0, 60.0)),
        ClickPrompt(box_xyxy=(-1.0, 0.0, 10.0, 10.0)),
    ],
)
def test_outside_the_image_is_refused(tiny_sam: SamBackbone, image: np.ndarray, prompt: ClickPrompt) -> None:
    with pytest.raises(InputError, match="90 x 60 pixels"):
        segment_clicks(tiny_sam, tiny_sam.embed([image])[0], prompt)


def test_the_whole_image_may_be_boxed(tiny_sam: SamBackbone, image: np.ndarray) -> None:
    prompt = ClickPrompt(box_xyxy=(0.0, 0.0, 90.0, 60.0))
    labels = segment_clicks(tiny_sam, tiny_sam.embed([image])[0], prompt)
    assert all(mask.point_coords == (45.0, 30.0) for mask in labels.masks)
