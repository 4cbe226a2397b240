"""Multiple-instance learning (section 3.5, eq. 1-2): a picture is a bag of masks, some of which show the object."""

from __future__ import annotations

import torch
from torch.nn.functional import log_softmax
from torch.nn.utils.rnn import pad_sequence


def bag_scores(logits: torch.Tensor, bag_sizes: torch.Tensor, topk_divisor: int) -> torch.Tensor:
    """Eq. 1: the score of a class in a bag of m masks is the mean of its k = max(1, m // s) largest activations.

    Args:
        logits: (N, K) float, masks of all bags one after another.
        bag_sizes: (B,) int64 on the CPU, m of each bag, at least 1; sums to N.
        topk_divisor: s, at least 1. The paper's value is lost.

    Returns:
        (B, K) float.
    """
    padded = pad_sequence(list(torch.split(logits, bag_sizes.tolist())), batch_first=True, padding_value=-torch.inf)
    counts = (bag_sizes // topk_divisor).clamp_min(1).to(logits.device)
    largest = padded.topk(int(counts.max()), dim=1).values
    taken = torch.arange(largest.shape[1], device=logits.device)[None, :, None] < counts[:, None, None]
    # -inf of the padding is never taken, and 0 · -inf would be NaN in the gradient: replace before summing.
    return largest.masked_fill(~taken, 0.0).sum(dim=1) / counts[:, None]


def presence_loss(
    logits: torch.Tensor, bag_sizes: torch.Tensor, class_ids: torch.Tensor, topk_divisor: int
) -> torch.Tensor:
    """Minus the log of the mean probability of a picture's class, and of background, over their k likeliest masks.

    Eq. 2 compares scores across classes, so it is content when object and background score alike on the same masks, and
    always so when there is one class only. This term asks for masks that are surely the one and surely the other (our
    choice).

    Args:
        logits: (N, C + 1) float, masks of all bags one after another, background last.
        bag_sizes: (B,) int64 on the CPU.
        class_ids: (B,) int64.
        topk_divisor: s of eq. 1.

    Returns:
        scalar, averaged over bags and the two.
    """
    present = bag_scores(logits.softmax(dim=-1), bag_sizes, topk_divisor).clamp_min(1e-6).log()
    of_class = present[torch.arange(len(class_ids), device=class_ids.device), class_ids]
    return -(of_class + present[:, -1]).mean() / 2


def frame_loss(logits: torch.Tensor, frame_share: torch.Tensor, frame_thresh: float) -> torch.Tensor:
    """Minus the log probability of background, averaged over masks that cover much of a picture's frame (our choice).

    A single object's picture has background along its frame. MIL cannot learn that from a single class.

    Args:
        logits: (N, C + 1) float, background last.
        frame_share: (N,) float32 in [0, 1].
        frame_thresh: masks with a larger share count.

    Returns:
        scalar, 0 when no mask counts.
    """
    along_frame = logits[frame_share > frame_thresh]
    if len(along_frame) == 0:
        return logits.sum() * 0
    return -log_softmax(along_frame, dim=-1)[:, -1].mean()


def bag_targets(class_ids: torch.Tensor, num_classes: int, background_share: float) -> torch.Tensor:
    """The normalised label of single-object bags: the object's class and, by a share, background (last).

    Args:
        class_ids: (B,) int64 in [0, num_classes).
        num_classes: C, without background.
        background_share: in [0, 1). 0 names the object alone; 0.5 is the normalised multi-hot label of both.

    Returns:
        (B, C + 1) float32, rows sum to 1.
    """
    targets = torch.zeros(len(class_ids), num_classes + 1, device=class_ids.device)
    targets[:, num_classes] = background_share
    targets[torch.arange(len(class_ids), device=class_ids.device), class_ids] = 1 - background_share
    return targets


def mil_loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Eq. 2: cross-entropy between (B, K) targets and the softmax of (B, K) scores, averaged over bags."""
    return -(targets * log_softmax(scores, dim=-1)).sum(dim=-1).mean()
