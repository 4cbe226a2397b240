"""The rearranged prompt decoder equals `segment_anything.modeling.MaskDecoder`."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from segment_anything.modeling import Sam

from everymask.backbone.sam.architecture import SamArchitecture, build_sam
from everymask.backbone.sam.prompt_decoder import OUTSIDE, DecodedPrompts, PromptDecoder
from tests.tiny_sam import TINY

CPU = torch.device("cpu")
SMALL = replace(TINY, image_size=128, encoder_depth=1, global_blocks=())
TOLERANCE = 1e-4


@torch.no_grad()
def decode_officially(sam: Sam, features: torch.Tensor, prompts: torch.Tensor) -> DecodedPrompts:
    """What the official modules answer, with the mask tokens they keep to themselves."""
    states = []
    hook = sam.mask_decoder.transformer.register_forward_hook(lambda module, args, output: states.append(output[0]))
    grid = features.shape[-1]
    logits, iou = sam.mask_decoder(
        image_embeddings=features[None],
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=prompts,
        dense_prompt_embeddings=sam.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1).expand(-1, -1, grid, grid),
        multimask_output=True,
    )
    hook.remove()
    return DecodedPrompts(logits, iou, states[0][:, 2:5])


@torch.no_grad()
def decode(
    sam: Sam,
    features: torch.Tensor,
    prompts: torch.Tensor,
    valid_hw: tuple[int, int],
    dtype: torch.dtype = torch.float32,
    factored: bool = True,
    least_iou: float | None = None,
) -> DecodedPrompts:
    position = sam.prompt_encoder.get_dense_pe()[0]
    decoder = PromptDecoder(copy.deepcopy(sam.mask_decoder), position, CPU, dtype, factored=factored)
    tokens = features.flatten(1).t() + sam.prompt_encoder.no_mask_embed.weight
    return decoder.decode(decoder.prepare(tokens.to(dtype), valid_hw), prompts.to(dtype), least_iou)


def random_input(architecture: SamArchitecture, prompts: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(prompts)
    grid, width = architecture.grid_size, architecture.prompt_width
    return torch.randn(width, grid, grid, generator=generator), torch.randn(prompts, tokens, width, generator=generator)


@pytest.mark.parametrize("prompts", [1, 5])
@pytest.mark.parametrize("tokens", [1, 2, 4])
@pytest.mark.parametrize(
    "architecture", [SMALL, replace(SMALL, decoder_depth=1), replace(SMALL, decoder_depth=3, prompt_width=64)]
)
@pytest.mark.parametrize("factored", [True, False])
def test_equals_the_official_decoder(architecture: SamArchitecture, prompts: int, tokens: int, factored: bool) -> None:
    sam = build_sam(architecture, seed=prompts)
    features, prompt_tokens = random_input(architecture, prompts, tokens)
    expected = decode_officially(sam, features, prompt_tokens)
    answer = decode(sam, features, prompt_tokens, (8, 8), factored=factored)
    assert expected.logits.std() > 0.1
    torch.testing.assert_close(answer.logits, expected.logits, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(answer.predicted_iou, expected.predicted_iou, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(answer.tokens, expected.tokens, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("valid_hw", [(8, 5), (3, 8), (1, 1)])
def test_answers_for_the_valid_part_alone(valid_hw: tuple[int, int]) -> None:
    sam = build_sam(SMALL, seed=0)
    features, prompt_tokens = random_input(SMALL, 3, 2)
    expected = decode_officially(sam, features, prompt_tokens).logits[..., : 4 * valid_hw[0], : 4 * valid_hw[1]]
    torch.testing.assert_close(decode(sam, features, prompt_tokens, valid_hw).logits, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.slow
def test_equals_the_official_decoder_at_its_own_size() -> None:
    architecture = SamArchitecture(encoder_depth=1, encoder_width=32, encoder_heads=2, encoder_mlp_width=32)
    sam = build_sam(architecture, seed=0)
    features, prompt_tokens = random_input(architecture, 3, 2)
    expected = decode_officially(sam, features, prompt_tokens)
    answer = decode(sam, features, prompt_tokens, (64, 64))
    torch.testing.assert_close(answer.logits, expected.logits, atol=TOLERANCE, rtol=0)


def test_an_answer_does_not_depend_on_the_other_prompts() -> None:
    sam = build_sam(SMALL, seed=0)
    features, prompt_tokens = random_input(SMALL, 6, 2)
    together = decode(sam, features, prompt_tokens, (8, 8))
    alone = decode(sam, features, prompt_tokens[4:5], (8, 8))
    torch.testing.assert_close(together.logits[4:5], alone.logits, atol=TOLERANCE, rtol=0)


def test_prompts_of_which_the_model_is_not_sure_get_no_masks() -> None:
    sam = build_sam(SMALL, seed=0)
    features, prompt_tokens = random_input(SMALL, 9, 2)
    every = decode(sam, features, prompt_tokens, (8, 5))
    best = every.predicted_iou.max(dim=1).values
    least = float(best.median())
    some = decode(sam, features, prompt_tokens, (8, 5), least_iou=least)
    sure = best >= least
    assert 0 < sure.sum() < len(sure)
    assert torch.equal(some.logits[sure], every.logits[sure])
    assert (some.logits[~sure] == OUTSIDE).all()
    assert torch.equal(some.predicted_iou, every.predicted_iou)


def test_bf16_keeps_nearly_all_mask_pixels() -> None:
    sam = build_sam(SMALL, seed=0)
    features, prompt_tokens = random_input(SMALL, 8, 2)
    expected = decode(sam, features, prompt_tokens, (8, 8)).logits > 0
    answer = decode(sam, features, prompt_tokens, (8, 8), torch.bfloat16).logits > 0
    assert (answer == expected).float().mean() > 0.97
