"""Replicas that have a GPU reserved on a machine that shows them none."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from everymask.errors import ConfigurationError
from serve.encoder import Encoder
from serve.refiner import Refiner
from serve.settings import read_settings

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")


def test_encoder_and_refiner_refuse_to_start() -> None:
    with pytest.raises(ConfigurationError, match="a GPU was asked for, but PyTorch"):
        Encoder(read_settings({"encoder": {"num_gpus": 0.5}}))
    with pytest.raises(ConfigurationError, match="a GPU was asked for, but PyTorch"):
        Refiner(read_settings({"refiner": {"num_gpus": 0.5}}), cast(Any, None))
