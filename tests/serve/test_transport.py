from __future__ import annotations

import numpy as np
import pytest
import torch

from everymask.backbone.embedding import embed_images
from everymask.backbone.protocol import ImageEmbedding
from everymask.backbone.sam import SamBackbone
from serve.transport import pack, unpack
from tests.serve.pictures import picture


def test_an_embedding_arrives_as_it_was_sent(tiny_sam: SamBackbone) -> None:
    (sent,) = embed_images(tiny_sam, [np.asarray(picture(0))], keep_picture=True)
    assert isinstance(sent, ImageEmbedding)
    assert sent.picture is not None
    packed = pack(sent)
    for array in packed.arrays:
        array.flags.writeable = False
    arrived = unpack(packed)
    assert arrived.weights_sha256 == sent.weights_sha256
    assert arrived.canvas.original_size_hw == sent.canvas.original_size_hw
    np.testing.assert_array_equal(arrived.canvas_image, sent.canvas_image)
    assert arrived.picture is not None
    np.testing.assert_array_equal(arrived.picture, sent.picture)
    assert torch.equal(arrived.canvas.cell_index, sent.canvas.cell_index)
    assert torch.equal(arrived.canvas.cell_area, sent.canvas.cell_area)
    assert list(arrived.features) == list(sent.features)
    for name, tensor in sent.features.items():
        assert torch.equal(arrived.features[name], tensor)
        assert arrived.features[name].dtype == tensor.dtype
        # It may be computed with in place, which what Ray holds may not.
        arrived.features[name].zero_()
    # No tensor and no picture is in the pickle.
    assert len(packed.content) < 10_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_of_every_type_and_shape_arrive(
    tiny_sam: SamBackbone, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    one = tiny_sam.embed([np.asarray(picture(0))])[0]
    tensor = torch.ones(shape).to(dtype)
    turned = torch.arange(6.0).reshape(2, 3).T
    arrived = unpack(pack(ImageEmbedding(one.canvas, one.canvas_image, {"a": tensor, "b": turned}, "sha")))
    assert torch.equal(arrived.features["a"], tensor)
    assert arrived.features["a"].dtype == dtype
    assert torch.equal(arrived.features["b"], turned)
