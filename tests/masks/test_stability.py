from __future__ import annotations

import pytest
import torch
from segment_anything.utils.amg import calculate_stability_score

from everymask.masks import stability
from everymask.masks.packed import packed_bits
from everymask.masks.stability import above, rated_bits, stability_scores


def test_equals_segment_anything_on_pixels() -> None:
    logits = torch.randn(4, 3, 30, generator=torch.Generator().manual_seed(0)) * 3
    ours = stability_scores(logits, torch.ones(30))
    theirs = calculate_stability_score(logits.reshape(4, 3, 5, 6), 0.0, 1.0)
    torch.testing.assert_close(ours, theirs)


def test_cells_count_by_their_area() -> None:
    logits = torch.tensor([[5.0, 0.5, -0.5, -5.0]])
    assert stability_scores(logits, torch.tensor([6.0, 3.0, 1.0, 100.0])).item() == pytest.approx(0.6)


def test_a_mask_that_is_nowhere_is_not_stable() -> None:
    assert stability_scores(torch.full((1, 4), -9.0), torch.ones(4)).tolist() == [0.0]


@pytest.mark.parametrize("cells", [1, 63, 64, 1000])
def test_bits_are_counted_as_a_product_would(cells: int) -> None:
    generator = torch.Generator().manual_seed(cells)
    logits = torch.randn(20, cells, generator=generator) * 2
    area = torch.randint(1, 5000, (cells,), generator=generator).to(torch.float64)
    strict, loose = ((logits > threshold).to(area.dtype) @ area for threshold in (0.7, -0.7))
    expected = torch.where(loose > 0, strict / loose.clamp_min(1), 0)
    assert torch.equal(stability_scores(logits, area, 0.7), expected)


@pytest.mark.parametrize("cells", [1, 63, 64, 1000])
@pytest.mark.parametrize("at_a_time", [1, 150, 2**18])
def test_bits_and_stability_at_once_are_those_one_after_the_other(
    cells: int, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stability, "_LOGITS_AT_A_TIME", at_a_time)
    generator = torch.Generator().manual_seed(cells)
    logits = torch.randn(7, cells, generator=generator) * 2
    area = torch.randint(1, 50, (cells,), generator=generator).to(torch.float64)
    bits, scores = rated_bits(logits, area, 0.7)
    assert torch.equal(bits, packed_bits(logits > 0))
    strict, loose = ((logits > threshold).to(area.dtype) @ area for threshold in (0.7, -0.7))
    assert torch.equal(scores, torch.where(loose > 0, strict / loose.clamp_min(1), 0))


@pytest.mark.parametrize("logits", [torch.ones(2, 5, dtype=torch.bfloat16), torch.ones(2, 5, requires_grad=True)])
def test_a_backbone_may_answer_in_half_precision_or_with_gradients(logits: torch.Tensor) -> None:
    assert above(logits, 0.5).all()
    assert not above(logits, 1.0).any()
