"""A replica whose accelerator has failed: PyTorch raises the same error for every call from then on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from everymask.backbone.sam import SamBackbone
from serve.encoder import Encoder
from serve.errors import DeviceLostError
from serve.refiner import Refiner
from serve.settings import ServiceSettings, read_settings
from serve.tasks import EverythingTask, RequestImage
from tests.serve.pictures import picture, picture_file


@pytest.fixture
def settings(tiny_sam_checkpoint: Path) -> ServiceSettings:
    return read_settings({"model": "vit_b", "checkpoint": str(tiny_sam_checkpoint), "device": "cpu"})


class LostDevice:
    """A backbone whose device fails whenever it is asked to compute."""

    def __init__(self, backbone: SamBackbone) -> None:
        self._backbone = backbone

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def embed(self, *args: Any, **options: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    decode_points = embed_prepared = embed


def test_a_refiner_that_lost_its_device_says_so_to_client_and_serve(
    settings: ServiceSettings, tiny_sam: SamBackbone
) -> None:
    refiner = Refiner(settings, cast(Any, None))
    image = RequestImage.from_file("", picture_file(0))
    refiner._embeddings.put(image.key, tiny_sam.embed([np.asarray(picture(0))])[0])
    refiner.check_health()
    refiner._backbone = cast(Any, LostDevice(tiny_sam))
    assert isinstance(asyncio.run(refiner.refine(image, EverythingTask("entities"))), DeviceLostError)
    with pytest.raises(DeviceLostError):
        refiner.check_health()


def test_an_encoder_that_lost_its_device_says_so_to_client_and_serve(
    settings: ServiceSettings, tiny_sam: SamBackbone
) -> None:
    encoder = Encoder(settings)
    encoder.check_health()
    encoder._backbone = cast(Any, LostDevice(tiny_sam))

    async def two_at_once() -> list[Any]:
        return await asyncio.gather(*(encoder.embed(picture_file(i)) for i in range(2)))

    assert [type(answer) for answer in asyncio.run(two_at_once())] == [DeviceLostError] * 2
    with pytest.raises(DeviceLostError):
        encoder.check_health()
