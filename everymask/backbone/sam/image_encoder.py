"""SAM's image encoder with fused attention in the official modules."""

from __future__ import annotations

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, get_rel_pos
from torch import nn
from torch.nn import functional as F


class FusedAttention(nn.Module):
    """An official attention layer through `scaled_dot_product_attention`.

    The decomposed relative position (Li et al. 2022, MViTv2, eq. 5) adds q·R_h[i_q - i_k] + q·R_w[j_q - j_k] to a
    score, as an additive bias.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.qkv = attention.qkv
        self.proj = attention.proj
        sides = [(table.shape[0] + 1) // 2 for table in (attention.rel_pos_h, attention.rel_pos_w)]
        self.rows = nn.Parameter(get_rel_pos(sides[0], sides[0], attention.rel_pos_h), requires_grad=False)
        self.columns = nn.Parameter(get_rel_pos(sides[1], sides[1], attention.rel_pos_w), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) → (B, H, W, C): each token attends to all H x W tokens of its image or window."""
        batch, height, width, channels = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, heads, HW, D)
        grid = q.reshape(batch, self.heads, height, width, -1)
        by_row = grid @ self.rows.transpose(1, 2)  # (B, heads, H, W, H)
        by_column = (grid.transpose(2, 3) @ self.columns.transpose(1, 2)).transpose(2, 3)  # (B, heads, H, W, W)
        bias = (by_row[..., :, None] + by_column[..., None, :]).reshape(batch, self.heads, height * width, -1)
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        projected: torch.Tensor = self.proj(read.transpose(1, 2).reshape(batch, height, width, channels))
        return projected


class ImageEncoder(nn.Module):
    """Batched image encoding, equal to the official encoder up to rounding."""

    def __init__(self, encoder: ImageEncoderViT, dtype: torch.dtype) -> None:
        """Takes over `encoder`, which must not be used afterwards; its transformer runs in `dtype`."""
        super().__init__()
        for block in encoder.blocks:
            block.attn = FusedAttention(block.attn)
        self.patch_embed = encoder.patch_embed.to(dtype)
        self.pos_embed = nn.Parameter(encoder.pos_embed.to(dtype), requires_grad=False)
        self.blocks = encoder.blocks.to(dtype)
        # The neck squares its activations, which overflows fp16.
        self.neck = encoder.neck.float()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) float32 network inputs → (B, C, S/16, S/16) float32 image embeddings."""
        x = self.patch_embed(pixels.to(self.pos_embed.dtype)) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        embedding: torch.Tensor = self.neck(x.float().permute(0, 3, 1, 2))
        return embedding
