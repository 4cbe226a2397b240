"""SAM checkpoints: check, and build the model."""

from __future__ import annotations

from pathlib import Path

from segment_anything.modeling import Sam

from everymask.backbone.sam.architecture import OFFICIAL_ARCHITECTURES, build_sam, infer_architecture
from everymask.backbone.tensors import check_family, read_tensors, refusing_misfits
from everymask.errors import CheckpointError


def load_checkpoint(path: Path, model: str) -> Sam:
    """Build a file's SAM, float32 on the CPU, in evaluation mode; its tensors give the sizes.

    Args:
        path: `.safetensors`, or a PyTorch state dictionary with any other ending (`weights_only` loading).
        model: the requested name; a file that holds another official model is refused.

    Raises:
        CheckpointError: unreadable, not a SAM, or another official model.
    """
    tensors = read_tensors(path)
    check_family(tensors, model, str(path))
    architecture = infer_architecture(tensors, str(path))
    for official, sizes in OFFICIAL_ARCHITECTURES.items():
        if architecture == sizes and official != model:
            raise CheckpointError(f"{path} holds {official}, but {model} was asked for; use --model {official}")
    remedy = "use a checkpoint published for vit_b, vit_l or vit_h, or one trained from them"
    with refusing_misfits(path, "the official SAM architecture", remedy):
        sam = build_sam(architecture)
        sam.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return sam
